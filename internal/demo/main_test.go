package demo

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/workload/process"
)

// The test binary is also the shim and the application.
func TestMain(m *testing.M) {
	process.RunShimIfAsked()
	if len(os.Args) > 1 && os.Args[1] == "demo-app" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		c := App()
		c.SetArgs(os.Args[2:])
		err := c.ExecuteContext(ctx)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
