package cli

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// inSeconds is v for machines: as encoding/json would write it, with every
// time.Duration as a number of seconds under a name that says so ("bound" is
// "boundSeconds"), and null where it is as long as can be, which means never.
func inSeconds(v any) any { return secondsOf(reflect.ValueOf(v)) }

var durations = reflect.TypeFor[time.Duration]()

func secondsOf(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	if v.Type() == durations {
		d := time.Duration(v.Int())
		if d == math.MaxInt64 {
			return nil
		}
		return math.Round(d.Seconds()*1e6) / 1e6
	}
	switch v.Interface().(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return v.Interface()
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return secondsOf(v.Elem())
	case reflect.Struct:
		return object(nil).with(v)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface()
		}
		if v.Kind() == reflect.Slice && v.IsNil() {
			return nil
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = secondsOf(v.Index(i))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[fmt.Sprint(k)] = secondsOf(v.MapIndex(k))
		}
		return out
	}
	return v.Interface()
}

// object is a JSON object in the order of its struct's fields.
type object []member

type member struct {
	name  string
	value any
}

func (o object) with(v reflect.Value) object {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			o = o.with(v.Field(i))
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		if x := v.Field(i); omitted(rest, x) {
			continue
		}
		if f.Type == durations && !strings.HasSuffix(name, "Seconds") {
			name += "Seconds"
		}
		o = append(o, member{name, secondsOf(v.Field(i))})
	}
	return o
}

// omitted is encoding/json's rule.
func omitted(options string, x reflect.Value) bool {
	for o := range strings.SplitSeq(options, ",") {
		switch k := x.Kind(); {
		case o == "omitzero" && x.IsZero():
			return true
		case o == "omitempty" && (k == reflect.Slice || k == reflect.Map || k == reflect.String || k == reflect.Array):
			return x.Len() == 0
		case o == "omitempty" && k != reflect.Struct && x.IsZero():
			return true
		}
	}
	return false
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(&b, "%q:%s", m.name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
