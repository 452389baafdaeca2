package gateway

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/http"
	"strings"
	"time"
)

// stickyAge is for how long a browser keeps the gateway's own cookie.
const stickyAge = 30 * 24 * 60 * 60 // seconds

// sticky deals users out by weighted rendezvous: every destination draws a
// number from the user and its own name, and the best draw for its weight has
// the user. Raising a weight betters that destination's draws alone: it gains
// users and the others gain none from each other as long as their weights keep
// their proportion.
type sticky struct {
	Sticky
	key []byte
}

// user gives what the user is known by, or "". cookie is what must be set in
// the answer so that the user is known next time, or "".
func (s *sticky) user(r *http.Request) (user, cookie string) {
	switch {
	case s.Header != "":
		return strings.Join(r.Header.Values(s.Header), ","), ""
	case s.Cookie != "":
		if c, err := r.Cookie(s.Cookie); err == nil {
			return c.Value, ""
		}
		return "", ""
	}
	if c, err := r.Cookie(s.OwnCookie); err == nil && s.genuine(c.Value) {
		return c.Value, ""
	}
	var id [16]byte
	rand.Read(id[:])
	user = hex.EncodeToString(id[:])
	user += "." + s.sign(user)
	c := http.Cookie{Name: s.OwnCookie, Value: user, Path: cmp.Or(s.Path, "/"), MaxAge: stickyAge, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil}
	switch {
	case s.Age > 0:
		c.MaxAge = max(1, int(s.Age/time.Second))
	case s.Age < 0:
		c.MaxAge = 0 // net/http leaves the attribute out
	}
	return user, c.String()
}

// sign gives the signature of an id: nobody can choose an id that goes to the
// version that they want.
func (s *sticky) sign(id string) string {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(s.OwnCookie + "\x00" + id))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

func (s *sticky) genuine(value string) bool {
	id, sig, ok := strings.Cut(value, ".")
	return ok && len(id) == 32 && hmac.Equal([]byte(sig), []byte(s.sign(id)))
}

// choose gives the destination for a user among those with a weight that have
// endpoints.
func (s *sticky) choose(user string, dests []*version, weights []int) *version {
	var best *version
	bestScore := math.Inf(-1)
	for i, v := range dests {
		if weights[i] == 0 || len(v.endpoints) == 0 {
			continue
		}
		m := hmac.New(sha256.New, s.key)
		m.Write([]byte(user + "\x00" + v.name))
		draw := binary.BigEndian.Uint64(m.Sum(nil))
		u := (float64(draw>>11) + 0.5) / (1 << 53) // within (0,1)
		if score := float64(weights[i]) / -math.Log(u); score > bestScore {
			best, bestScore = v, score
		}
	}
	return best
}

// replicaFor gives the endpoint that keeps a user: the best draw among those
// that can be connected to. One that comes takes some users, one that goes gives
// its users to the others, and nobody else moves.
func (v *version) replicaFor(user string, now time.Time) *endpoint {
	var best *endpoint
	var bestDraw uint64
	for _, e := range v.endpoints {
		if s := e.suspect.Load(); s != 0 && s > now.UnixNano() {
			continue
		}
		h := sha256.Sum256([]byte(user + "\x00" + e.Replica))
		if draw := binary.BigEndian.Uint64(h[:8]); best == nil || draw > bestDraw {
			best, bestDraw = e, draw
		}
	}
	if best == nil {
		return v.choose(nil, now)
	}
	return best
}
