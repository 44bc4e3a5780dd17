package sink_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/tinylib/msgp/msgp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/dockline/dockline/internal/testcert"
)

// startPeer starts this program again as a peer, and returns its address.
func startPeer(b *testing.B, kind, dir string) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DOCKLINE_TEST_PEER="+kind, "DOCKLINE_TEST_PEER_DIR="+dir, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // it ends with this one
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// runPeer serves until its standard input ends.
func runPeer(kind, dir string) {
	addr, err := servePeer(kind, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func servePeer(kind, dir string) (net.Addr, error) {
	if kind == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		go discardDatagrams(conn)
		return conn.LocalAddr(), nil
	}
	if strings.HasPrefix(kind, "kafka") {
		return serveKafka(kind, dir)
	}
	if kind == "journal" {
		return discardEntries(dir)
	}
	if kind == "nats-server" {
		return runNATS(dir)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr()
	if strings.HasPrefix(kind, "grpc") {
		return addr, answerGRPC(ln, kind == "grpc+tls", dir)
	}
	if strings.HasSuffix(kind, "+tls") {
		config, err := peerTLS(dir)
		if err != nil {
			return nil, err
		}
		ln = tls.NewListener(ln, config)
	}
	serve := map[string]func(net.Conn){"discard": discard, "relp": answerRELP, "forward": answerForward, "http": answerHTTP, "nats": answerNATS}[strings.TrimSuffix(kind, "+tls")]
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return addr, nil
}

// serveKafka is a broker that keeps nothing.
func serveKafka(kind, dir string) (net.Addr, error) {
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(8, "logs"), kfake.BlackholeProduce()}
	if strings.HasSuffix(kind, "+tls") {
		config, err := peerTLS(dir)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kfake.TLS(config))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, err
	}
	return net.ResolveTCPAddr("tcp", c.ListenAddrs()[0])
}

func peerTLS(dir string) (*tls.Config, error) {
	ca, err := testcert.New("bench")
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(24*time.Hour, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	cert, err := pair.TLS()
	return &tls.Config{Certificates: []tls.Certificate{cert}}, errors.Join(err, writeCA(dir, ca.PEM))
}

func discard(conn net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

func discardDatagrams(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		if _, _, err := conn.ReadFrom(buf); err != nil {
			return
		}
	}
}

// answerRELP answers each frame, as many at once as have come.
func answerRELP(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 256<<10), bufio.NewWriterSize(conn, 64<<10)
	for {
		txnr, err := in.ReadSlice(' ')
		if err != nil {
			return
		}
		_, _ = out.Write(txnr)
		command, _ := in.ReadSlice(' ')
		open := string(command) == "open "
		length := 0
		for {
			c, err := in.ReadByte()
			if err != nil || c == ' ' || c == '\n' {
				break
			}
			length = length*10 + int(c-'0')
		}
		_, _ = in.Discard(length + 1)
		if open {
			const offers = "200 OK\nrelp_version=0\ncommands=syslog"
			_, _ = fmt.Fprintf(out, "rsp %d %s\n", len(offers), offers)
		} else {
			_, _ = out.WriteString("rsp 6 200 OK\n")
		}
		if in.Buffered() == 0 {
			if out.Flush() != nil {
				return
			}
		}
	}
}

// answerForward acknowledges each chunk and does not look into it.
func answerForward(conn net.Conn) {
	in := msgp.NewReaderSize(conn, 256<<10)
	for {
		if _, err := in.ReadArrayHeader(); err != nil {
			return
		}
		_ = in.Skip() // tag
		_ = in.Skip() // entries
		n, _ := in.ReadMapHeader()
		for range n {
			key, _ := in.ReadString()
			if key != "chunk" {
				_ = in.Skip()
				continue
			}
			id, _ := in.ReadString()
			if _, err := conn.Write(msgp.AppendString(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "ack"), id)); err != nil {
				return
			}
		}
	}
}

// answerHTTP takes each request and does not look into it.
func answerHTTP(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 256<<10)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		answer := ""
		if strings.HasSuffix(r.URL.Path, "/_bulk") {
			answer = `{"errors":false}`
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer); err != nil {
			return
		}
	}
}

// answerNATS acknowledges each message as a stream does, and does not look into it.
func answerNATS(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 256<<10), bufio.NewWriterSize(conn, 64<<10)
	_, _ = out.WriteString("INFO {\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}\r\n")
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		words := bytes.Fields(line)
		switch {
		case string(words[0]) == "PING":
			_, _ = out.WriteString("PONG\r\n")
		case string(words[0]) == "HPUB" && len(words) == 5:
			length, _ := strconv.Atoi(string(words[4]))
			_, _ = fmt.Fprintf(out, "MSG %s 1 32\r\n{\"stream\":\"LOGS\", \"seq\":1234567}\r\n", words[2])
			if _, err := in.Discard(length + 2); err != nil {
				return
			}
		}
	}
}

// runNATS runs Debian's server with a stream on disk, for as long as this process
// lives.
func runNATS(dir string) (net.Addr, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr()
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(addr.String())
	cmd := exec.Command("/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for {
		nc, err := nats.Connect("nats://" + addr.String())
		if err != nil {
			time.Sleep(20 * time.Millisecond) // until it listens
			continue
		}
		defer nc.Close()
		js, err := nc.JetStream()
		if err != nil {
			return nil, err
		}
		_, err = js.AddStream(&nats.StreamConfig{Name: "LOGS", Subjects: []string{"logs.>"}, MaxBytes: 256 << 20})
		return addr, err
	}
}
