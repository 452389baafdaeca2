package cli

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // what people read is in their own time; golden files are in this one
	goleak.VerifyTestMain(m)
}
