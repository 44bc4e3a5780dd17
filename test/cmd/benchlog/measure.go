package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clockTick is the unit of CPU times in /proc (USER_HZ, 100 on Linux).
const clockTick = 10 * time.Millisecond

// cpuTime is what a process has used so far, in user and kernel.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read a process's CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest) // from field 3, the state, on (proc(5))
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d: its stat is too short", pid)
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("process %d: cannot make sense of its stat", pid)
	}
	return time.Duration(user+system) * clockTick, nil
}

// anonymous is the memory of a process that is backed by no file, in MiB.
func anonymous(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kib, _ := strconv.Atoi(f[0])
	return float64(kib) / 1024
}

// usage watches what plugin and engine take.
type usage struct {
	plugin, engine int // pids; plugin is 0 where there is none
	before         [2]time.Duration
	peak           float64
	stop           context.CancelFunc
	wg             sync.WaitGroup
}

func watch(ctx context.Context, plugin, engine int) *usage {
	u := &usage{plugin: plugin, engine: engine}
	u.before[0], u.before[1] = u.read()
	ctx, u.stop = context.WithCancel(ctx)
	u.wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			u.peak = max(u.peak, anonymous(plugin))
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	return u
}

func (u *usage) read() (plugin, engine time.Duration) {
	if u.plugin != 0 {
		plugin, _ = cpuTime(u.plugin)
	}
	engine, _ = cpuTime(u.engine)
	return plugin, engine
}

// end returns seconds of CPU since watch, and the plugin's peak in MiB.
func (u *usage) end() (plugin, engine, mib float64) {
	p, e := u.read()
	u.stop()
	u.wg.Wait()
	return (p - u.before[0]).Seconds(), (e - u.before[1]).Seconds(), u.peak
}

// discard ends the watch of a run that failed.
func (u *usage) discard() error {
	u.end()
	return nil
}
