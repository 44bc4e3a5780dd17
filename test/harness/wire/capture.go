package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockline/dockline/test/harness/netns"
)

const (
	maxFrames     = 1 << 16
	maxFrameLen   = 1 << 16 // offloads make frames of up to 64 KiB on virtual cables
	captureBuffer = 8 << 20 // what the kernel holds for us
)

// Of struct tpacket_auxdata, see packet(7): its length, and where the VLAN tag is.
const (
	auxLen = 20
	auxTCI = 16
)

// Capture records what enters the switch: each frame once, with the port where
// it came in.
type Capture struct {
	wire *Wire
	keep func(Frame) bool
	file *os.File
	done chan struct{}  // closed when the reader has ended
	port map[int]string // by index; the reader's own

	mu     sync.Mutex // guards the rest
	frames []Frame
	more   chan struct{} // closed and replaced when a frame is added
	missed int
	err    error // why the reader ended
}

// Capture begins to record the frames that keep wants; nil wants all. keep is
// called from one goroutine. Nothing that is sent after Capture returned is missed.
func (w *Wire) Capture(keep func(Frame) bool) (*Capture, error) {
	if keep == nil {
		keep = func(Frame) bool { return true }
	}
	var fd int
	err := netns.Do(w.ns, func() (err error) {
		fd, err = tap()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture on wire %s: %w", w.Name, err)
	}
	c := &Capture{
		wire: w, keep: keep, file: os.NewFile(uintptr(fd), "capture on "+w.Name),
		done: make(chan struct{}), more: make(chan struct{}), port: make(map[int]string),
	}
	go c.read()
	return c, nil
}

// tap opens a packet(7) socket that sees what enters every interface.
func tap() (int, error) {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		// Only now that it is set up does it begin to receive.
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff}))
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Frames returns what has been recorded so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[:len(c.frames):len(c.frames)]
}

// Await returns the first recorded frame that match wants, waiting for it to
// come if it has not yet.
func (c *Capture) Await(ctx context.Context, match func(Frame) bool) (Frame, error) {
	for next := 0; ; {
		c.mu.Lock()
		frames, more, err := c.frames, c.more, c.err
		c.mu.Unlock()
		for ; next < len(frames); next++ {
			if match(frames[next]) {
				return frames[next], nil
			}
		}
		if err != nil {
			return Frame{}, fmt.Errorf("capture on wire %s: %w", c.wire.Name, err)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Frame{}, fmt.Errorf("wait for a frame on wire %s (%d others came): %w", c.wire.Name, next, context.Cause(ctx))
		}
	}
}

// Close ends the capture. Frames stay readable. An error says that there were
// frames which are not among them.
func (c *Capture) Close() error {
	select {
	case <-c.done:
		return nil // closed before, or broken, which Await has told
	default:
	}
	lost := c.lost()
	c.file.Close()
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	if lost += c.missed; lost > 0 {
		return fmt.Errorf("capture on wire %s: %d frames are missing", c.wire.Name, lost)
	}
	return nil
}

// lost asks the kernel how many frames did not fit into its buffer.
func (c *Capture) lost() (lost int) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if st, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			lost = int(st.Drops)
		}
	})
	return lost
}

// read is the reader's goroutine.
func (c *Capture) read() {
	defer close(c.done)
	err := c.receive()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	close(c.more)
}

func (c *Capture) receive() error {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	buf, oob := make([]byte, maxFrameLen), make([]byte, 128)
	for {
		var n, oobn int
		var from unix.Sockaddr
		var got error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, from, got = unix.Recvmsg(int(fd), buf, oob, unix.MSG_TRUNC)
			return !errors.Is(got, unix.EAGAIN)
		})
		switch {
		case err != nil:
			return err
		case errors.Is(got, syscall.EINTR) || errors.Is(got, unix.ENETDOWN): // an interface went down
			continue
		case got != nil:
			return got
		}
		if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Ifindex != c.wire.index {
			c.add(at.Ifindex, buf[:min(n, len(buf))], oob[:oobn])
		}
	}
}

// add records one frame as it came from the kernel. What the switch's own
// interface sees are copies of what its ports saw, which receive leaves out.
func (c *Capture) add(index int, data, oob []byte) {
	if len(data) < headerLen {
		return
	}
	f := Frame{Time: time.Now(), Port: c.portName(index), Data: tagged(data, oob)}
	if !c.keep(f) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == maxFrames {
		c.missed++
		return
	}
	c.frames = append(c.frames, f)
	close(c.more)
	c.more = make(chan struct{})
}

// tagged copies a frame and puts the VLAN tag back into it, which the kernel
// takes out and hands over beside it.
func tagged(data, oob []byte) []byte {
	msgs, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range msgs {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxLen {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		out := append(make([]byte, 0, len(data)+tagLen), data[:12]...)
		out = binary.BigEndian.AppendUint16(out, TypeVLAN)
		out = binary.BigEndian.AppendUint16(out, binary.NativeEndian.Uint16(m.Data[auxTCI:]))
		return append(out, data[12:]...)
	}
	return append([]byte(nil), data...)
}

// portName looks a port up by its index. One that is gone already has no name.
func (c *Capture) portName(index int) string {
	if name, ok := c.port[index]; ok {
		return name
	}
	_ = netns.Do(c.wire.ns, func() error {
		link, err := net.InterfaceByIndex(index)
		if err == nil {
			c.port[index] = link.Name
		}
		return err
	})
	return c.port[index]
}
