package gateway

import "time"

// An HTTP/2 connection is ended without losing a request (RFC 9113, 6.8) in two
// steps. The client is told first that no stream beyond 2^31-1 is taken, which
// says "begin no more here" and refuses nothing, and is sent a PING. Once it has
// answered that, nothing that it had begun before is still under way, and the
// server's own GOAWAY names the last stream there is. net/http sends the second
// one alone: what a client sends meanwhile would be dropped, and a client that
// cannot repeat it has failed.
//
// The first step is put between two frames of the server, which does not know
// of it.
var farewell = []byte{
	0, 0, 8, frameGoAway, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, // last stream, NO_ERROR
	0, 0, 8, framePing, 0, 0, 0, 0, 0, 'f', 'a', 'r', 'e', 'w', 'e', 'l', 'l',
}

const (
	framePing   = 6
	frameGoAway = 7
	flagAck     = 1

	frameHead  = 9
	prefaceLen = 24

	// quietFor is how long no stream may have been open after the client's answer:
	// it may have chosen this connection for a request just before it was told.
	quietFor = 50 * time.Millisecond
)

// frames follows one direction of an HTTP/2 connection. The zero frames are
// before the first frame.
type frames struct {
	head  [frameHead]byte
	n     int  // bytes of head that are there
	left  int  // bytes of the frame's payload still to come
	begun bool // one frame has ended, at least
}

// between says whether a frame may be put here: after the first, which has to be
// SETTINGS, and not within another one.
func (f *frames) between() bool { return f.begun && f.n == 0 }

// take takes from p what belongs to the frame that goes on or begins, and says
// whether the frame ends with it.
func (f *frames) take(p []byte) (n int, ends bool) {
	if f.n < frameHead {
		n = copy(f.head[f.n:], p)
		if f.n += n; f.n < frameHead {
			return n, false
		}
		f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
	}
	payload := min(f.left, len(p)-n)
	f.left -= payload
	if f.left == 0 {
		f.n, f.begun = 0, true
	}
	return n + payload, f.left == 0
}

// follow takes all of p, and says whether a PING was answered in it.
func (f *frames) follow(p []byte) (answered bool) {
	for len(p) > 0 {
		n, ends := f.take(p)
		p = p[n:]
		answered = answered || ends && f.head[3] == framePing && f.head[4]&flagAck != 0
	}
	return answered
}

// Write counts HTTP/2's frames, and says farewell between two of them once the
// gateway leaves.
func (c *frontConn) Write(p []byte) (n int, err error) {
	if !c.framed.Load() {
		return c.Conn.Write(p)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	for n < len(p) && err == nil && c.f.g.leaving.Load() && !c.told {
		k, ends := c.out.take(p[n:])
		k, err = c.Conn.Write(p[n : n+k])
		n += k
		if err == nil && ends {
			err = c.tell()
		}
	}
	if n < len(p) && err == nil {
		var k int
		c.out.follow(p[n:])
		k, err = c.Conn.Write(p[n:])
		n += k
	}
	return n, err
}

// announce says farewell now, or leaves it to the server's next write.
func (c *frontConn) announce() {
	c.writing.Lock()
	defer c.writing.Unlock()
	if !c.told && c.out.between() {
		_ = c.tell()
	}
}

// tell is called with writing held, between two frames.
func (c *frontConn) tell() error {
	c.told = true
	_, err := c.Conn.Write(farewell)
	return err
}
