package main

import "regexp"

// What is a secret in configurations, logs and command lines.
var (
	// A name that says so, and its value, which may be quoted: password: x,
	// "token":"x", --etcd-user root:x. A file's name is no secret.
	secretNames = regexp.MustCompile(`(?i)((?:password|passwd|passphrase|secret|token|credential|api[-_]?key)s?(-file|_file)?["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s,;&"'}\]]+)`)
	// NAME:PASSWORD of etcd's user.
	secretUsers = regexp.MustCompile(`(?i)((?:etcd|etcdctl)[-_]user["']?\s*[:= ]\s*["']?[^\s:"']+:)[^\s"']+`)
	// A URL's password.
	secretURLs = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:)[^\s/@"']+@`)
	// A header.
	secretHeaders = regexp.MustCompile(`(?i)(authorization["']?\s*[:=]\s*["']?(?:basic|bearer)\s+)[^\s"']+`)
	// A private key in PEM.
	secretPEM = regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
)

// redact replaces secrets by ***.
func redact(text []byte) []byte {
	text = secretNames.ReplaceAllFunc(text, func(m []byte) []byte {
		parts := secretNames.FindSubmatch(m)
		if len(parts[2]) > 0 {
			return m
		}
		quote := ""
		if v := parts[3]; v[0] == '"' || v[0] == '\'' {
			quote = string(v[:1])
		}
		return append(append([]byte{}, parts[1]...), quote+"***"+quote...)
	})
	text = secretUsers.ReplaceAll(text, []byte("${1}***"))
	text = secretURLs.ReplaceAll(text, []byte("${1}***@"))
	text = secretHeaders.ReplaceAll(text, []byte("${1}***"))
	return secretPEM.ReplaceAll(text, []byte("${1}\n***\n${2}"))
}
