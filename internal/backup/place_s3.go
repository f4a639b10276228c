package backup

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Options say how to reach an S3-compatible store.
type S3Options struct {
	// Endpoint is http://HOST:PORT or https://HOST; default Amazon's, or the
	// environment's AWS_ENDPOINT_URL.
	Endpoint string
	// Region is needed by some stores; default AWS_REGION.
	Region string
	// Transport is for tests; may be nil.
	Transport http.RoundTripper
}

type s3Place struct {
	client         *minio.Client
	bucket, prefix string
}

func openS3(bucket, prefix string, o S3Options) (Place, error) {
	endpoint := firstOf(o.Endpoint, os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("S3 endpoint %q: it must be http://HOST:PORT or https://HOST", endpoint)
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
		Secure: u.Scheme == "https", Region: firstOf(o.Region, os.Getenv("AWS_REGION")), Transport: o.Transport,
	})
	if err != nil {
		return nil, fmt.Errorf("S3 endpoint %q: %w", endpoint, err)
	}
	return &s3Place{client, bucket, prefix}, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (s *s3Place) String() string {
	return strings.TrimRight("s3://"+s.bucket+"/"+s.prefix, "/")
}

func (s *s3Place) key(name string) string {
	if s.prefix == "" {
		return name
	}
	return s.prefix + "/" + name
}

// Put implements Place. The store gets a checksum of its own to compare.
func (s *s3Place) Put(ctx context.Context, name string, data []byte) error {
	_, err := s.client.PutObject(ctx, s.bucket, s.key(name), bytes.NewReader(data), int64(len(data)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", SendContentMd5: true, DisableMultipart: true})
	return s.explain("write", name, err)
}

// Get implements Place.
func (s *s3Place) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.explain("read", name, err)
	}
	defer o.Close()
	data, err := readAll(o, limit)
	return data, s.explain("read", name, err)
}

// List implements Place.
func (s *s3Place) List(ctx context.Context, prefix string, each func(name string, bytes int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing if each did
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.key(prefix), Recursive: true}) {
		if o.Err != nil {
			return s.explain("list", prefix, o.Err)
		}
		if err := each(strings.TrimPrefix(o.Key, s.key("")), o.Size); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// explain says which bucket an error is about.
func (s *s3Place) explain(what, name string, err error) error {
	if err == nil {
		return nil
	}
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return fmt.Errorf("%s in %s: %w", name, s, fs.ErrNotExist)
	}
	return fmt.Errorf("%s %s in %s: %w", what, name, s, err)
}
