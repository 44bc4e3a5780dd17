package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

// trace runs into real faults, recovers and prints what Go says about them:
// lines that belong together, on stderr.
func trace(args []string) error {
	f := options("trace")
	n := f.Int("n", 20, "faults")
	rate := f.Int("rate", 0, "faults a second; 0 is as fast as can be")
	depth := f.Int("depth", 8, "calls on the stack")
	_ = f.Parse(args)
	faults := []func(){indexOutOfRange, nilMap, nilPointer, wrongType, divideByZero}
	return pace(*n, *rate, func() {}, func(i int) error {
		fmt.Printf("request %d begins\n", i)
		survive(i, *depth, faults[i%len(faults)])
		fmt.Printf("request %d ends with status 500\n", i)
		return nil
	})
}

func survive(i, depth int, fault func()) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "panic in request %d: %v\n\n%s", i, p, debug.Stack())
		}
	}()
	descend(depth, fault)
}

func descend(depth int, fault func()) {
	if depth > 0 {
		descend(depth-1, fault)
		return
	}
	fault()
}

// The operands come from the environment so that neither the compiler nor a
// linter sees the fault.
func zero() int { return len(os.Getenv("DOCKLINE_NOT_SET")) }

func indexOutOfRange() { fmt.Println([]int{1, 2, 3}[zero()+3]) }

func nilMap() {
	var m map[string]int
	if zero() > 0 {
		m = map[string]int{}
	}
	m["key"]++
}

func nilPointer() {
	var p *struct{ n int }
	if zero() > 0 {
		p = &struct{ n int }{}
	}
	p.n++
}

func wrongType() {
	var v any = zero()
	fmt.Println(v.(string))
}

func divideByZero() { fmt.Println(1 / zero()) }
