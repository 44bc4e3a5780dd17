package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// web serves HTTP on the container's loopback interface, loads it with
// requests of its own, and logs each in the combined format to stdout and
// failures to stderr.
func web(args []string) error {
	f := options("web")
	n := f.Int("requests", 1000, "requests in all")
	clients := f.Int("clients", 4, "clients at a time")
	rate := f.Int("rate", 0, "requests a second of each client; 0 is as fast as can be")
	_ = f.Parse(args)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	srv := &http.Server{
		Handler:           accessLog(os.Stdout, site()),
		ErrorLog:          log.New(os.Stderr, "http: ", log.LstdFlags),
		ReadHeaderTimeout: 5 * time.Second,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	err = load("http://"+l.Addr().String(), *n, *clients, *rate)
	err = errors.Join(err, srv.Shutdown(context.Background()))
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

func site() http.Handler {
	mux := http.NewServeMux()
	errs := log.New(os.Stderr, "", log.LstdFlags)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<h1>a shop</h1>"+strings.Repeat("<p>things</p>", 100))
	})
	mux.HandleFunc("GET /item/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":%q}`, r.PathValue("id"))
	})
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, r *http.Request) {
		errs.Printf("error: %s: the stock database does not answer", r.URL)
		http.Error(w, "no stock", http.StatusServiceUnavailable)
	})
	return mux
}

// accessLog writes a line in the combined log format for each request.
func accessLog(out io.Writer, next http.Handler) http.Handler {
	var mu sync.Mutex // guards out
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		c := &counted{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(c, r)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(out, "%s - - [%s] %q %d %d %q %q\n", host, start.Format("02/Jan/2006:15:04:05 -0700"),
			r.Method+" "+r.URL.RequestURI()+" "+r.Proto, c.status, c.bytes, r.Referer(), r.UserAgent())
	})
}

type counted struct {
	http.ResponseWriter
	status, bytes int
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += n
	return n, err
}

func load(base string, n, clients, rate int) error {
	errs := make(chan error, clients)
	for c := range clients {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(c), 5))
			errs <- pace(n/clients, rate, func() {}, func(int) error { return request(base, rnd) })
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func request(base string, rnd *rand.Rand) error {
	method, path := http.MethodGet, "/"
	switch k := rnd.IntN(20); {
	case k < 12:
		path = fmt.Sprintf("/item/%d?q=%%22quoted%%22", rnd.IntN(1000))
	case k < 15:
		method, path = http.MethodPost, "/order"
	case k == 15:
		path = "/broken"
	case k == 16:
		path = "/no/such/page"
	}
	req, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader("item=1"))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("User-Agent", "workload/1.0 (load generator)")
	req.Header.Set("Referer", base+"/")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
