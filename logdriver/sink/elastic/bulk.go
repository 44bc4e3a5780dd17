package elastic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/dockline/dockline/logdriver/sink/internal/web"
)

// bulk is the body of a bulk request, and what is answered to it
// (elastic.co, docs/api/doc/elasticsearch, bulk).
type bulk struct{}

func (bulk) Type() string { return "application/x-ndjson" }

func (bulk) Body(dst, text []byte, records []web.Record) []byte {
	return web.AppendText(dst, text, records)
}

// answer is what filter_path leaves of it.
type answer struct {
	Errors *bool             `json:"errors"`
	Items  []map[string]item `json:"items"`
}

type item struct {
	Status int             `json:"status"`
	Error  json.RawMessage `json:"error"`
}

// allWell is how an answer begins that says of no record that it failed, and each
// how one does that was looked at.
const (
	allWell = `{"errors":false`
	each    = `{"create":{"status":`
)

// Judge implements web.Format.
func (bulk) Judge(text []byte, n int) (web.Verdict, error) {
	var v web.Verdict
	if bytes.HasPrefix(text, []byte(allWell)) && bytes.Count(text, []byte(each)) == n {
		return v, nil
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || a.Errors == nil {
		return v, web.Misfit(web.Clean(text), "this is no answer to a bulk request: is it Elasticsearch or OpenSearch, and is the path of the collector's URL the right one?")
	}
	if !*a.Errors && a.Items == nil {
		return v, nil
	}
	if len(a.Items) != n {
		return v, web.Trouble(fmt.Sprintf("of %d records, having been sent %d", len(a.Items), n))
	}
	for i, one := range a.Items {
		it, ok := one["create"]
		if !ok {
			return v, web.Trouble(fmt.Sprintf("of record %d that something else than creating it was done", i))
		}
		if err := it.judge(&v, i); err != nil {
			return v, err
		}
	}
	return v, nil
}

// judge sees to what is said of one record.
func (it *item) judge(v *web.Verdict, i int) error {
	said := fmt.Sprintf("%d for a record: %s", it.Status, web.Clean(it.Error))
	switch {
	case it.Status >= 200 && it.Status < 300 || it.Status == http.StatusConflict:
		// With 409 it is there already: it was sent before.
	case it.Status == http.StatusTooManyRequests || it.Status == http.StatusServiceUnavailable:
		v.Busy, v.Why = append(v.Busy, i), said
	case it.Status == http.StatusBadRequest:
		v.Refused = append(v.Refused, web.Refused{Index: i, Class: web.Invalid, Reason: said})
	case it.Status == http.StatusRequestEntityTooLarge:
		v.Refused = append(v.Refused, web.Refused{Index: i, Class: web.TooLarge, Reason: said})
	case it.Status == http.StatusNotFound:
		return web.Misfit(said, "there is no such data stream or index, and it is not made by itself: see the index template in the documentation")
	case it.Status == http.StatusForbidden:
		return web.Misfit(said, "the index takes no records, because its disk is full, it is blocked, or the user is not allowed to write there")
	case it.Status >= 500:
		return web.Trouble(said)
	default:
		return web.Misfit(said, "the collector's URL does not fit this collector")
	}
	return nil
}
