package jsonl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
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

// TestJudge: a page to log in to has taken nothing, whatever its status.
func TestJudge(t *testing.T) {
	for answer, err := range map[string]bool{"": false, "ok": false, "{}": false, " <!DOCTYPE html><html>log in</html>": true} {
		if _, got := (array{}).Judge([]byte(answer), 1); (got != nil) != err {
			t.Errorf("%q: %v", answer, got)
		}
	}
}

func TestNewHTTP(t *testing.T) {
	sinktest.CheckURLs(t, NewHTTP, []sinktest.URL{
		{URL: "json+http://host"},
		{URL: "json+https://u:p@host:8443/insert/jsonline?query._msg_field=message&header.AccountID=7&compress=gzip&connections=2&tls-ca=ca.pem"},
		{URL: "json+http://host?tls-ca=ca.pem", Err: "TLS is not spoken"},
		{URL: "json+http://host?format=xml", Err: "ndjson, array"},
		{URL: "json+http://host?connections=0", Err: "within 1 to 32"},
		{URL: "json+http://host?compress=zstd", Err: "none, gzip"},
		{URL: "json+http://host?pasword-file=x", Err: `did you mean "password-file"?`},
		{URL: "json+http://host?password-file=x", Err: "wants a user"},
		{URL: "json+http://u:secret@host?password-file=x", Err: "without a password"},
		{URL: "json+http://u@host", Err: "no password"},
		{URL: "json+http://u:secret@host?token-file=x", Err: "exclude each other"},
		{URL: "json+http://host?token-file=x&password-file=y", Err: "only one"},
		{URL: "json+http://host?token-file=../x", Err: "leads out"},
		{URL: "json+http://host?header.Authorization=x", Err: "token-file"},
		{URL: "json+http://host?header.X=a%0ab", Err: `header.X="…": not a header`},
		{URL: "json+http://host#f", Err: "follows a #"},
	})
}
