package v1alpha1

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Percent is a share, counted in 1/10000 of the whole: 5% is 500, 100% is
// 10000. Written with up to two decimals; at most 10000%. What the schema lets
// in can be read: one document that could not would blind every reader of lists.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Pattern=`^([0-9]{1,4}(\.[0-9]{1,2})?|10000)%$`
type Percent int32

// Points is a difference of shares in percentage points, counted in 1/10000:
// 0.5pp is 50. At most 100pp.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Pattern=`^([0-9]{1,2}(\.[0-9]{1,2})?|100)pp$`
type Points int32

// Duration is a time that is not negative, in whole milliseconds, at most a
// year; written as Go and the Gateway API write it: "500ms", "5m", "1h30m". The
// schema is narrower: each unit once, the largest first.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:Pattern=`^([0-7]?[0-9]{1,3}(\.[0-9]{1,4})?h)?([0-9]{1,4}(\.[0-9]{1,3})?m)?([0-9]{1,5}(\.[0-9]{1,3})?s)?([0-9]{1,8}ms)?$`
type Duration struct {
	time.Duration `json:"-"`
}

// Number is a plain number without a unit.
//
// +kubebuilder:validation:Type=number
type Number float64

// Bounds of what the units can say.
const (
	Whole       Percent = 10000 // 100%
	maxPercent          = 10000 * Whole / 100
	maxPoints   Points  = 10000
	maxDuration         = 365 * 24 * time.Hour
)

var decimal = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,18})?$`)

// ParsePercent reads a share such as "5%" or "0.25%".
func ParsePercent(s string) (Percent, error) {
	n, err := parseHundredths(s, "%", int64(maxPercent), "a share")
	return Percent(n), err
}

// ParsePoints reads a difference of shares such as "0.5pp".
func ParsePoints(s string) (Points, error) {
	n, err := parseHundredths(s, "pp", int64(maxPoints), "a difference of shares")
	return Points(n), err
}

// unitWords names what a unit counts, and several of it, for errors.
var (
	unitWords   = map[string]string{"%": "percent", "pp": "percentage points"}
	unitPlurals = map[string]string{"%": "percentages", "pp": "percentage points"}
)

// parseHundredths reads a decimal with the given unit into hundredths of it.
func parseHundredths(s, unit string, most int64, what string) (int64, error) {
	if s == "" {
		return 0, fmt.Errorf("empty: %s in %s is meant, such as 5%s", what, unitWords[unit], unit)
	}
	if len(s) > 64 {
		return 0, fmt.Errorf("%.20s...: %s in %s is meant, such as 5%s", s, what, unitWords[unit], unit)
	}
	number, ok := strings.CutSuffix(s, unit)
	if !ok {
		bare := strings.TrimSpace(strings.TrimRight(s, "% p"))
		switch {
		case bare == s && decimal.MatchString(s):
			return 0, fmt.Errorf("%s: %s need the unit: %s%s", s, unitPlurals[unit], s, unit)
		case decimal.MatchString(bare):
			return 0, fmt.Errorf("%s: %s is meant in %s here: %s%s", s, what, unitWords[unit], bare, unit)
		}
		return 0, fmt.Errorf("%q: %s in %s is meant, such as 5%s", s, what, unitWords[unit], unit)
	}
	if !decimal.MatchString(number) {
		switch trimmed := strings.TrimSpace(strings.Replace(number, ",", ".", 1)); {
		case strings.HasPrefix(number, "-"):
			return 0, fmt.Errorf("%s: cannot be negative", s)
		case decimal.MatchString(trimmed):
			return 0, fmt.Errorf("%q: write it %s%s", s, trimmed, unit)
		}
		return 0, fmt.Errorf("%q: %s in %s is meant, such as 5%s", s, what, unitWords[unit], unit)
	}
	whole, frac, _ := strings.Cut(number, ".")
	frac = strings.TrimRight(frac, "0")
	if len(frac) > 2 {
		return 0, fmt.Errorf("%s: finer than 0.01%s, which is the smallest that is counted", s, unit)
	}
	n, err := strconv.ParseInt(whole+(frac + "00")[:2], 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s: more than %s%s", s, hundredths(most), unit)
	}
	return n, nil
}

// hundredths prints n/100 with as few decimals as say it.
func hundredths(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	s := fmt.Sprintf("%s%d.%02d", sign, n/100, n%100)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// String prints the canonical form: "5%", "0.25%".
func (p Percent) String() string { return hundredths(int64(p)) + "%" }

// Fraction gives the share as a fraction of one: 5% is 0.05.
func (p Percent) Fraction() float64 { return float64(p) / float64(Whole) }

// MarshalJSON writes the canonical form.
func (p Percent) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// UnmarshalJSON reads a string with its unit.
func (p *Percent) UnmarshalJSON(b []byte) error {
	return unmarshalUnit(b, p, ParsePercent)
}

// String prints the canonical form: "0.5pp".
func (p Points) String() string { return hundredths(int64(p)) + "pp" }

// Fraction gives the difference as a fraction of one: 0.5pp is 0.005.
func (p Points) Fraction() float64 { return float64(p) / float64(Whole) }

// MarshalJSON writes the canonical form.
func (p Points) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// UnmarshalJSON reads a string with its unit.
func (p *Points) UnmarshalJSON(b []byte) error {
	return unmarshalUnit(b, p, ParsePoints)
}

var durationShape = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)

// ParseDuration reads a time such as "500ms", "5m" or "1h30m".
func ParseDuration(s string) (Duration, error) {
	fail := func(format string, args ...any) (Duration, error) {
		return Duration{}, fmt.Errorf("%s: %s", clip(s), fmt.Sprintf(format, args...))
	}
	switch {
	case s == "":
		return Duration{}, fmt.Errorf("empty: a time is meant, such as 30s, 5m or 1h30m")
	case len(s) > 32:
		return fail("a time is meant, such as 30s, 5m or 1h30m")
	case strings.HasPrefix(s, "-"):
		return fail("a time cannot be negative")
	case decimal.MatchString(s):
		return fail("a time needs its unit: %ss, %sm or %sh", s, s, s)
	case !durationShape.MatchString(s):
		if days, ok := strings.CutSuffix(s, "d"); ok && decimal.MatchString(days) {
			d, _ := strconv.ParseFloat(days, 64)
			return fail("days are written in hours: %sh", strconv.FormatFloat(d*24, 'f', -1, 64))
		}
		return fail("a time is written with ms, s, m and h, such as 30s, 5m or 1h30m")
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil || d > maxDuration:
		return fail("longer than a year (8760h)")
	case d%time.Millisecond != 0:
		return fail("finer than 1ms, which is the shortest time that is counted")
	}
	return Duration{d}, nil
}

// String prints the canonical form, without parts that are zero: "5m", "1h30m", "0s".
func (d Duration) String() string {
	if d.Duration == 0 {
		return "0s"
	}
	s := d.Duration.String()
	// Go writes 5m0s and 1h0m0s; the zero parts say nothing.
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalJSON writes the canonical form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string with its unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	return unmarshalUnit(b, d, ParseDuration)
}

// String prints the shortest decimal that is the number.
func (n Number) String() string { return strconv.FormatFloat(float64(n), 'f', -1, 64) }

// MarshalJSON writes a plain number.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return nil, fmt.Errorf("%v cannot be written", float64(n))
	}
	return []byte(n.String()), nil
}

// UnmarshalJSON reads a plain number.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		s := strings.Trim(string(b), `"`)
		if bare := strings.TrimRight(s, "% "); bare != "" && decimal.MatchString(bare) {
			return fmt.Errorf("%s: a plain number is meant here: %s", clip(string(b)), bare)
		}
		return fmt.Errorf("%s: a plain number is meant here, such as 99.9", clip(string(b)))
	}
	*n = Number(f)
	return nil
}

// unmarshalUnit reads a JSON string by parse; a bare number goes through parse
// too, so that the error can say which unit is missing.
func unmarshalUnit[T any](b []byte, into *T, parse func(string) (T, error)) error {
	if string(b) == "null" {
		return nil
	}
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := parse(s)
	if err != nil {
		return err
	}
	*into = v
	return nil
}

// clip keeps a quoted value short enough for a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
