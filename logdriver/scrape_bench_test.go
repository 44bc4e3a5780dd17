package logdriver

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	stock "github.com/docker/docker/api/types/plugins/logdriver"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/logdriver/spool"
)

// thousand is a plugin with a thousand containers in its spool.
func thousand(b *testing.B, perContainer bool) (*host, *admin.Server) {
	b.Helper()
	var got atomic.Int64
	h := newHost(b, "json+tcp://"+discard(b, &got))
	h.plugin.shown.PerContainer = perContainer
	for i := range 1000 {
		id := fmt.Sprintf("%012x%052x", i+1, 0)
		_, _, err := h.plugin.spool.Attach(spool.Params{Container: id, KeepBytes: 1 << 20, Routes: []string{"default"}, Info: []byte(fmt.Sprintf(`{"ContainerName":"/web-%d"}`, i))}, filepath.Join(h.dir, id))
		if err != nil {
			b.Fatal(err)
		}
	}
	return h, h.plugin.Admin(quiet)
}

func scrape(s *admin.Server) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w
}

// BenchmarkScrape measures a scrape of a host with a thousand containers.
func BenchmarkScrape(b *testing.B) {
	for name, each := range map[string]bool{"all together": false, "each container": true} {
		b.Run(name, func(b *testing.B) {
			_, s := thousand(b, each)
			b.ReportAllocs()
			size, series := 0, 0
			for b.Loop() {
				text := scrape(s).Body.String()
				size, series = len(text), strings.Count(text, "\n")-strings.Count(text, "\n#")
			}
			b.ReportMetric(float64(size), "B/scrape")
			b.ReportMetric(float64(series), "series")
		})
	}
}

// BenchmarkPathUnderScrapes is BenchmarkPath with a thousand containers beside it,
// and without and with a scrape after the other: what records wait for scrapes.
func BenchmarkPathUnderScrapes(b *testing.B) {
	var frame bytes.Buffer
	if err := stock.NewLogEntryEncoder(&frame).Encode(&stock.LogEntry{Source: "stdout", TimeNano: 1e18, Line: []byte(strings.Repeat("x", 120))}); err != nil {
		b.Fatal(err)
	}
	for _, scraped := range []bool{false, true} {
		b.Run(fmt.Sprintf("scraped=%v", scraped), func(b *testing.B) {
			h, s := thousand(b, true)
			r := h.run(1, nil)
			stop, done := make(chan struct{}), make(chan int, 1)
			go func() {
				n := 0
				defer func() { done <- n }()
				for scraped {
					select {
					case <-stop:
						return
					default:
						scrape(s)
						n++
					}
				}
			}()
			for b.Loop() {
				if _, err := r.pipe.Write(frame.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			close(stop)
			b.ReportMetric(float64(<-done), "scrapes")
			r.stop()
		})
	}
}
