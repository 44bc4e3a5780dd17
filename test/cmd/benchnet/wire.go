package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/dockline/dockline/test/harness"
	"github.com/dockline/dockline/test/harness/netns"
	"github.com/dockline/dockline/test/harness/proc"
	"github.com/dockline/dockline/test/harness/program"
)

const (
	throughputPort = "5201"
	echoPort       = "7"
)

// wire measures throughput and latency of each variant, round by round.
func (b *bench) wire(ctx context.Context) error {
	for _, v := range variants {
		if v.network == "" {
			continue
		}
		if _, err := b.host.Engine.Run(ctx, "run", "-d", "--network", v.network, "--name", v.network, "--stop-signal", "KILL", harness.Image, "sleep", "100000"); err != nil {
			return err
		}
	}
	echo, err := b.echo()
	if err != nil {
		return err
	}
	defer echo.Close()
	server := netns.Command(ctx, b.far.NS, "iperf3", "-s", "-p", throughputPort)
	if err := server.Start(); err != nil {
		return fmt.Errorf("start iperf3: %w", err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	for round := range b.rounds {
		for i := range variants {
			v := variants[(i+round)%len(variants)] // nobody is always after the same
			if err := b.measure(ctx, v); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	for _, v := range variants {
		if v.network != "" {
			if err := b.host.Engine.Remove(ctx, v.network); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) measure(ctx context.Context, v variant) error {
	gbits, cost, err := b.iperf(ctx, v)
	if err != nil {
		return err
	}
	b.throughput[v.name], b.costs[v.name] = append(b.throughput[v.name], gbits), append(b.costs[v.name], cost)
	program.Print("%s: %.2f Gbit/s, %.3f CPU s per Gbit", v.name, gbits, cost)
	if b.latencies[v.name] == nil {
		b.latencies[v.name] = &histogram{}
	}
	return b.pingPong(ctx, v, b.latencies[v.name])
}

// iperf returns Gbit/s, and the CPU time that both ends took for a Gbit: what
// the kernel does for a frame on its way is done in the name of who sends or
// receives, so that this depends little on what else the machine does.
func (b *bench) iperf(ctx context.Context, v variant) (gbits, cost float64, err error) {
	path, err := b.namespace(ctx, v)
	if err != nil {
		return 0, 0, err
	}
	var out []byte
	err = proc.Await(ctx, func(ctx context.Context) error { // for the server to listen
		ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("iperf3 takes too long"))
		defer cancel()
		var err error
		out, err = exec.CommandContext(ctx, "nsenter", "--net="+path, "--", "iperf3", "-c", v.far, "-p", throughputPort, "-t", strconv.Itoa(b.seconds), "-O", "1", "-J").Output()
		if err != nil {
			return fmt.Errorf("iperf3: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	var result struct {
		End struct {
			CPU struct {
				Here  float64 `json:"host_total"`
				There float64 `json:"remote_total"`
			} `json:"cpu_utilization_percent"`
			SumReceived struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, 0, fmt.Errorf("read what iperf3 says: %w", err)
	}
	gbits = result.End.SumReceived.BitsPerSecond / 1e9
	return gbits, (result.End.CPU.Here + result.End.CPU.There) / 100 / gbits, nil
}

// echo answers UDP datagrams on the other machine.
func (b *bench) echo() (c net.PacketConn, err error) {
	err = b.far.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", ":"+echoPort)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for datagrams: %w", err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
	return c, nil
}

// pingPong sends datagrams one after the other and notes when each comes back.
func (b *bench) pingPong(ctx context.Context, v variant, into *histogram) error {
	var c net.Conn
	err := b.in(ctx, v, func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(v.far, echoPort))
		return err
	})
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	buf := make([]byte, 64)
	for i := range b.trips + 100 { // the first ones find the way
		begin := time.Now()
		if err := c.SetDeadline(begin.Add(time.Second)); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if _, err := c.Read(buf); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if i >= 100 {
			into.add(time.Since(begin))
		}
	}
	return nil
}
