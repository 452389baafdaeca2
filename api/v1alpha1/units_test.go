package v1alpha1

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestUnitsReadWhatPeopleWrite(t *testing.T) {
	for in, want := range map[string]Percent{
		"5%": 500, "0.5%": 50, "0.25%": 25, "0.01%": 1, "100%": 10000, "12.50%": 1250, "0%": 0, "007%": 700, "10000%": 1000000,
	} {
		if got, err := ParsePercent(in); got != want || err != nil {
			t.Errorf("ParsePercent(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]Points{"0.5pp": 50, "1pp": 100, "0.03pp": 3, "100pp": 10000} {
		if got, err := ParsePoints(in); got != want || err != nil {
			t.Errorf("ParsePoints(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]time.Duration{
		"0s": 0, "500ms": 500 * time.Millisecond, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute,
		"90s": 90 * time.Second, "1.5s": 1500 * time.Millisecond, "8760h": 8760 * time.Hour,
	} {
		if got, err := ParseDuration(in); got.Duration != want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestUnitsSayWhatWouldBeRight(t *testing.T) {
	percent := func(s string) error { _, err := ParsePercent(s); return err }
	points := func(s string) error { _, err := ParsePoints(s); return err }
	duration := func(s string) error { _, err := ParseDuration(s); return err }
	number := func(s string) error { var n Number; return n.UnmarshalJSON([]byte(s)) }
	for _, c := range []struct {
		parse func(string) error
		in    string
		want  string
	}{
		{points, "0.5", "0.5: percentage points need the unit: 0.5pp"},
		{points, "0.5%", "0.5%: a difference of shares is meant in percentage points here: 0.5pp"},
		{points, "101pp", "101pp: more than 100pp"},
		{percent, "5", "5: percentages need the unit: 5%"},
		{percent, "0.5pp", "0.5pp: a share is meant in percent here: 0.5%"},
		{percent, "0,5%", `"0,5%": write it 0.5%`},
		{percent, "5 %", `"5 %": write it 5%`},
		{percent, "-5%", "-5%: cannot be negative"},
		{percent, "0.005%", "0.005%: finer than 0.01%, which is the smallest that is counted"},
		{percent, "1000000%", "1000000%: more than 10000%"},
		{percent, "99999999999999999999%", `"99999999999999999999%": a share in percent is meant, such as 5%`},
		{percent, "half", `"half": a share in percent is meant, such as 5%`},
		{percent, "", "empty: a share in percent is meant, such as 5%"},
		{percent, "%", `"%": a share in percent is meant, such as 5%`},
		{percent, "NaN%", `"NaN%": a share in percent is meant, such as 5%`},
		{duration, "5", "5: a time needs its unit: 5s, 5m or 5h"},
		{duration, "1d", "1d: days are written in hours: 24h"},
		{duration, "-5m", "-5m: a time cannot be negative"},
		{duration, "5 min", "5 min: a time is written with ms, s, m and h, such as 30s, 5m or 1h30m"},
		{duration, "1ns", "1ns: a time is written with ms, s, m and h, such as 30s, 5m or 1h30m"},
		{duration, "0.5ms", "0.5ms: finer than 1ms, which is the shortest time that is counted"},
		{duration, "8761h", "8761h: longer than a year (8760h)"},
		{duration, "9999999999999999h", "9999999999999999h: longer than a year (8760h)"},
		{duration, "", "empty: a time is meant, such as 30s, 5m or 1h30m"},
		{number, `"98%"`, `"98%": a plain number is meant here: 98`},
		{number, `"many"`, `"many": a plain number is meant here, such as 99.9`},
		{number, "NaN", "NaN: a plain number is meant here, such as 99.9"},
		{number, "1e999", "1e999: a plain number is meant here, such as 99.9"},
	} {
		if err := c.parse(c.in); err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.in, err, c.want)
		}
	}
}

func TestUnitsPrintOneForm(t *testing.T) {
	for in, want := range map[string]string{"90s": "1m30s", "60m": "1h", "3600s": "1h", "1500ms": "1.5s", "0h": "0s", "24h": "24h", "1h0m30s": "1h0m30s"} {
		if d, err := ParseDuration(in); err != nil || d.String() != want {
			t.Errorf("%s prints as %s (%v), want %s", in, d, err, want)
		}
	}
	for in, want := range map[string]string{"5.00%": "5%", "0.50%": "0.5%", "00.25%": "0.25%"} {
		if p, err := ParsePercent(in); err != nil || p.String() != want {
			t.Errorf("%s prints as %s (%v), want %s", in, p, err, want)
		}
	}
}

// What is printed is read back as the same value, for every value there is.
func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Percent(rapid.Int32Range(0, int32(maxPercent)).Draw(t, "percent"))
		q := Points(rapid.Int32Range(0, int32(maxPoints)).Draw(t, "points"))
		d := Duration{time.Duration(rapid.Int64Range(0, maxDuration.Milliseconds()).Draw(t, "ms")) * time.Millisecond}
		n := Number(rapid.Float64Range(-1e12, 1e12).Draw(t, "number"))
		type all struct {
			P Percent
			Q Points
			D Duration
			N Number
		}
		in := all{p, q, d, n}
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out all
		if err := json.Unmarshal(b, &out); err != nil || out != in {
			t.Fatalf("%s came back as %+v, %v", b, out, err)
		}
	})
}
