package jsonl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

func TestConformanceHTTP(t *testing.T) {
	for _, tc := range []struct{ scheme, query, kind string }{
		{"json+http", "", "application/x-ndjson"},
		{"json+https", "", "application/x-ndjson"},
		{"json+http", "format=array&compress=gzip", "application/json"},
	} {
		t.Run(tc.scheme+tc.query, func(t *testing.T) {
			sinktest.RunHTTP(t, sinktest.HTTP{Scheme: tc.scheme, Query: tc.query, New: NewHTTP, Take: take(tc.kind)})
		})
	}
}

// take reads a request as strictly as it can be.
func take(kind string) func(r *http.Request, body []byte) ([]sinktest.Got, []byte, error) {
	return func(r *http.Request, body []byte) (got []sinktest.Got, answer []byte, err error) {
		if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != kind {
			return nil, nil, fmt.Errorf("%s %s of %s", r.Method, r.URL, r.Header.Get("Content-Type"))
		}
		var objects []object
		if kind == "application/json" {
			err = strict(body, &objects)
		} else {
			if !bytes.HasSuffix(body, []byte("\n")) {
				return nil, nil, fmt.Errorf("%.100q has no end", body)
			}
			for line := range bytes.Lines(body) {
				var o object
				if err = strict(line, &o); err != nil {
					break
				}
				objects = append(objects, o)
			}
		}
		for _, o := range objects {
			line := o.Message
			if o.MessageBase64 != nil {
				line = string(o.MessageBase64)
			}
			got = append(got, sinktest.Got{ID: o.ID, Line: line})
		}
		return got, nil, err
	}
}

func strict(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func TestNewHTTP(t *testing.T) {
	for _, tc := range []struct{ url, err string }{
		{url: "json+http://host"},
		{url: "json+https://u:p@host:8443/insert/jsonline?query._msg_field=message&header.AccountID=7&compress=gzip&connections=2&tls-ca=ca.pem"},
		{url: "json+http://host?tls-ca=ca.pem", err: "TLS is not spoken"},
		{url: "json+http://host?format=xml", err: "ndjson, array"},
		{url: "json+http://host?connections=0", err: "within 1 to 32"},
		{url: "json+http://host?compress=zstd", err: "none, gzip"},
		{url: "json+http://host?pasword-file=x", err: `did you mean "password-file"?`},
		{url: "json+http://host?password-file=x", err: "wants a user"},
		{url: "json+http://u:secret@host?password-file=x", err: "without a password"},
		{url: "json+http://u@host", err: "no password"},
		{url: "json+http://u:secret@host?token-file=x", err: "exclude each other"},
		{url: "json+http://host?token-file=x&password-file=y", err: "only one"},
		{url: "json+http://host?token-file=../x", err: "leads out"},
		{url: "json+http://host?header.Authorization=x", err: "token-file"},
		{url: "json+http://host?header.X=a%0ab", err: "not a header"},
		{url: "json+http://host#f", err: "fragment"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		host := sinktest.Host()
		host.Config = t.TempDir()
		_, err = NewHTTP(u, host)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is told: %v", err)
		}
	}
}
