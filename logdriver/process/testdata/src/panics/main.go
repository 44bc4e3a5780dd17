// Command panics dies as its argument says, after an ordinary line.
package main

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
)

type server struct{ m map[string]int }

func (s *server) count(key string) { s.m[key]++ }

func main() {
	fmt.Fprintln(os.Stderr, "begins")
	switch os.Args[1] {
	case "nilmap":
		new(server).count("a")
	case "error":
		panic(fmt.Errorf("open the shop: %w", errors.New("no key\nno door")))
	case "again":
		defer func() {
			panic(fmt.Sprint("again: ", recover()))
		}()
		panic("once")
	case "segv":
		var s *server
		fmt.Println(s.m)
	case "deadlock":
		var mu sync.Mutex
		mu.Lock()
		mu.Lock()
	case "deep":
		deep(0)
	case "http":
		log.SetFlags(0)
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("in a handler") }))
		_, _ = http.Get(s.URL)
		s.Close()
		fmt.Fprintln(os.Stderr, "the end")
	}
}

func deep(n int) int { return deep(n+1) + 1 }
