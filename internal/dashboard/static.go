package dashboard

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var embedded embed.FS

// file is one of the page's parts.
type file struct {
	body []byte
	kind string
	tag  string
}

// staticFiles returns the parts by their names, and a digest of them all.
func staticFiles() (files map[string]file, digest string, err error) {
	files, all := make(map[string]file), sha256.New()
	err = fs.WalkDir(embedded, "static", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		all.Write(body)
		kind := kinds[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("dashboard: %s is of no known kind", name)
		}
		files[strings.TrimPrefix(name, "static/")] = file{body, kind, fmt.Sprintf(`"%.16x"`, sha256.Sum256(body))}
		return nil
	})
	return files, fmt.Sprintf("%.16x", all.Sum(nil)), err
}

// kinds are said here: the host's list may lack one or call it otherwise.
var kinds = map[string]string{
	".html": mime.FormatMediaType("text/html", map[string]string{"charset": "utf-8"}),
	".css":  mime.FormatMediaType("text/css", map[string]string{"charset": "utf-8"}),
	".js":   mime.FormatMediaType("text/javascript", map[string]string{"charset": "utf-8"}),
	".svg":  "image/svg+xml",
}

// policy lets the page load what this node serves, and nothing else: no script
// that is not a file of ours, no style in the text, no frame around it. Trusted
// types make the browser refuse code that would turn text into HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// protect sets what every answer says to browsers.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// static serves the page, at whatever path below /ui/, and its parts.
func (d *Dashboard) static(w http.ResponseWriter, r *http.Request) {
	name, part := strings.CutPrefix(r.URL.Path, "/ui/static/")
	if !part {
		name = "index.html"
	}
	protect(w.Header())
	f, ok := d.files[name]
	if !ok {
		http.Error(w, "the dashboard has no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "no-cache") // asks each time, and is told when nothing has changed
	w.Header().Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(f.body) // an error means that the client has gone
}
