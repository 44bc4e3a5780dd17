package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// pace spreads n steps over time, rate steps a second; 0 is as fast as can be.
// flush is called before each wait, so that what was written is out. SIGTERM
// ends it after a whole step.
func pace(n, rate int, flush func(), step func(i int) error) error {
	const tick = 5 * time.Millisecond
	start, stop := time.Now(), terminated()
	defer signal.Stop(stop)
	for i := range n {
		if len(stop) > 0 {
			break
		}
		if rate > 0 {
			due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
			if wait := time.Until(due); wait > tick {
				flush()
				sleep(wait, stop)
			}
		}
		if err := step(i); err != nil {
			return err
		}
	}
	flush()
	return nil
}

// terminated has a value once SIGTERM has come.
func terminated() chan os.Signal {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	return stop
}

// sleep ends early when stop has a value, and leaves it there.
func sleep(d time.Duration, stop chan os.Signal) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case s := <-stop:
		stop <- s
	}
}

// writers are buffered stdout and stderr.
type writers struct{ out, err *bufio.Writer }

func newWriters() writers {
	return writers{bufio.NewWriterSize(os.Stdout, 64<<10), bufio.NewWriterSize(os.Stderr, 64<<10)}
}

func (w writers) flush() {
	_ = w.out.Flush()
	_ = w.err.Flush()
}

// seq writes numbered lines with the time at which they were written. Each
// source counts on its own: seq=N of=TOTAL src=SOURCE ts=NANOSECONDS, padded.
func seq(args []string) error {
	f := options("seq")
	n := f.Int("n", 1000, "lines on stdout")
	rate := f.Int("rate", 0, "lines a second; 0 is as fast as can be")
	size := f.Int("size", 120, "bytes a line, at least what the fields take")
	every := f.Int("stderr-every", 0, "also write a line to stderr after as many lines; 0 is never")
	_ = f.Parse(args)
	w := newWriters()
	return pace(*n, *rate, w.flush, func(i int) error {
		if err := numbered(w.out, i, *n, "stdout", *size); err != nil {
			return err
		}
		if *every > 0 && (i+1)%*every == 0 {
			return numbered(w.err, i / *every, *n / *every, "stderr", *size)
		}
		return nil
	})
}

func numbered(w *bufio.Writer, i, total int, source string, size int) error {
	head := fmt.Sprintf("seq=%d of=%d src=%s ts=%d ", i, total, source, time.Now().UnixNano())
	_, err := fmt.Fprintf(w, "%s%s\n", head, strings.Repeat("x", max(0, size-len(head))))
	return err
}

// blast writes numbered lines as cheaply as can be: benchmarks are about who
// reads them. Each holds one ^, which is in nothing else that is sent.
func blast(args []string) error {
	f := options("blast")
	n := f.Int("n", 1000, "lines")
	size := f.Int("size", 120, "bytes a line, at least 12")
	_ = f.Parse(args)
	line := append(bytes.Repeat([]byte("x"), *size), '\n')
	copy(line, "^0000000000 ")
	w := newWriters()
	for range *n {
		if _, err := w.out.Write(line); err != nil {
			return err
		}
		for i := 10; ; i-- { // the next number
			if line[i]++; line[i] <= '9' {
				break
			}
			line[i] = '0'
		}
	}
	return w.out.Flush()
}

// burst writes numbered lines in bursts with pauses between them.
func burst(args []string) error {
	f := options("burst")
	n := f.Int("n", 5, "bursts")
	lines := f.Int("lines", 2000, "lines in a burst")
	pause := f.Duration("pause", 500*time.Millisecond, "between two bursts")
	_ = f.Parse(args)
	w, stop := newWriters(), terminated()
	defer signal.Stop(stop)
	return pace(*n**lines, 0, w.flush, func(i int) error {
		if i > 0 && i%*lines == 0 {
			w.flush()
			sleep(*pause, stop)
		}
		return numbered(w.out, i, *n**lines, "stdout", 100)
	})
}

// long writes lines that the engine has to cut, from 20 KiB to 1 MiB.
func long(args []string) error {
	f := options("long")
	n := f.Int("n", 12, "lines")
	most := f.Int("max", 1<<20, "bytes of the longest one")
	_ = f.Parse(args)
	w := newWriters()
	rnd := rand.New(rand.NewPCG(1, 2))
	return pace(*n, 0, w.flush, func(i int) error {
		size := 20<<10 + i*(*most-20<<10)/max(1, *n-1)
		line := make([]byte, size)
		for k := range line {
			line[k] = "abcdefghijklmnopqrstuvwxyz0123456789 .,"[rnd.IntN(39)]
		}
		_, err := fmt.Fprintf(w.out, "%s\n", line)
		return err
	})
}

// jsonLines writes structured logs.
func jsonLines(args []string) error {
	f := options("json")
	n := f.Int("n", 1000, "lines")
	rate := f.Int("rate", 0, "lines a second; 0 is as fast as can be")
	_ = f.Parse(args)
	w := newWriters()
	rnd := rand.New(rand.NewPCG(3, 4))
	levels := []string{"debug", "info", "info", "info", "warn", "error"}
	enc := json.NewEncoder(w.out)
	return pace(*n, *rate, w.flush, func(i int) error {
		return enc.Encode(map[string]any{
			"time": time.Now().UTC().Format(time.RFC3339Nano), "level": levels[rnd.IntN(len(levels))],
			"msg": "order \"" + fmt.Sprint(i) + "\" accepted\tby ünïcode \\ shop", "order": i,
			"customer": map[string]any{"id": rnd.IntN(9000), "vip": i%17 == 0},
			"amount":   float64(rnd.IntN(100000)) / 100,
		})
	})
}

// binary writes lines with every byte value but the newline, in every place,
// among them NULs and sequences that are not UTF-8.
func binary(args []string) error {
	f := options("binary")
	n := f.Int("n", 256, "lines")
	_ = f.Parse(args)
	w := newWriters()
	return pace(*n, 0, w.flush, func(i int) error {
		line := make([]byte, 0, 257)
		for k := range 256 {
			if b := byte(i + k); b != '\n' {
				line = append(line, b)
			}
		}
		_, err := w.out.Write(append(line, '\n'))
		return err
	})
}

// notail ends its output in the middle of a line.
func notail(args []string) error {
	f := options("notail")
	size := f.Int("size", 60, "bytes of the line without an end")
	_ = f.Parse(args)
	_, err := fmt.Printf("a whole line\n%s", strings.Repeat("z", *size))
	return err
}
