package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
)

// Place is where backups are kept. Names have slashes, no dots at their parts'
// beginnings, and lower-case letters, digits, '-', '_' and '.'. It is safe for
// concurrent use.
type Place interface {
	// Put stores an object, whole or not at all, in place of one with its name. It is
	// durable on return.
	Put(ctx context.Context, name string, data []byte) error
	// Get reads an object of at most limit bytes. An object that is not there is
	// fs.ErrNotExist.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)
	// List calls each with every object whose name begins with prefix, which ends
	// with a slash, and its length, sorted by name.
	List(ctx context.Context, prefix string, each func(name string, bytes int64) error) error
	// String says where it is.
	String() string
}

// errTooLong is what Get returns for an object that is longer than it can be.
var errTooLong = errors.New("it is longer than it can be")

// Open opens a place: a directory, or s3://BUCKET/PREFIX. An S3 place takes its
// credentials from where other S3 programs do: AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the machine's role.
func Open(where string, s3 S3Options) (Place, error) {
	scheme, _, isURL := strings.Cut(where, "://")
	switch {
	case where == "":
		return nil, errors.New("name a directory, or s3://BUCKET/PREFIX")
	case !isURL:
		return openDir(where)
	case scheme == "file":
		return openDir(strings.TrimPrefix(where, "file://"))
	case scheme == "s3":
		u, err := url.Parse(where)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("%q: name a bucket, as in s3://BUCKET/PREFIX", where)
		}
		return openS3(u.Host, strings.Trim(u.Path, "/"), s3)
	}
	return nil, fmt.Errorf("%q: backups are kept in a directory or in s3://BUCKET/PREFIX", where)
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// getNamed reads an object that is no batches, and compares it with the checksum in
// its name.
func getNamed(ctx context.Context, p Place, name, want string, limit int64) ([]byte, error) {
	data, err := p.Get(ctx, name, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &DamageError{Object: name, Reason: "it is missing"}
	case errors.Is(err, errTooLong):
		return nil, &DamageError{Object: name, Reason: err.Error()}
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if have := sum(data); have != want {
		return nil, &DamageError{Object: name, To: int64(len(data)), Reason: "its SHA-256 is " + have + ", not the one in its name"}
	}
	return data, nil
}
