// Command xds sends a steady stream of gRPC calls to one Service through
// Istio's control plane, with no proxy in between: grpc-go asks istiod for
// listeners, routes, clusters and endpoints and splits the calls itself.
//
//	xds -istiod 127.0.0.1:15010 -target my-app.default.svc.cluster.local:80 -rate 200
//
// Every call has an id of its own. Each one that has ended is a line of JSON on
// stdout ([Call]). The stream ends when stdin does: calls in flight are waited
// for, so that none is without its line.
//
// One error of grpc-go's own, "unknown cluster selected for RPC", means that the
// call was caught between two routes and was never sent. It is repeated and
// counted apart (Call.Retries); nothing else is.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Call is one call that has ended.
type Call struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"` // when it began
	Ms      float64   `json:"ms"`
	Code    string    `json:"code"`              // gRPC's name of it: OK, Unavailable ...
	Version string    `json:"version,omitempty"` // that answered, if any did
	Pod     string    `json:"pod,omitempty"`
	Err     string    `json:"err,omitempty"`
	Retries int       `json:"retries,omitempty"` // of calls that were never sent
}

// unsent is grpc-go's answer to a call that was caught between two routes.
const unsent = "unknown cluster selected for RPC"

func main() {
	log.SetFlags(0)
	log.SetPrefix("xds: ")
	istiod := flag.String("istiod", "127.0.0.1:15010", "address of istiod's plain xDS port")
	target := flag.String("target", "", "host:port of the Service")
	namespace := flag.String("namespace", "default", "of the client")
	rate := flag.Int("rate", 200, "calls per second")
	name := flag.String("name", "client", "of the client; ids begin with it")
	flag.Parse()
	if os.Getenv(bootstrapVar) == "" {
		log.Fatal(again(*istiod, *namespace, *name))
	}
	if err := run(*target, *name, *rate, os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

const bootstrapVar = "GRPC_XDS_BOOTSTRAP_CONFIG"

// again starts this program anew with the bootstrap in its environment, which
// grpc-go reads before main begins.
func again(istiod, namespace, name string) error {
	bootstrap, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri": istiod, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"},
		}},
		"node": map[string]any{
			"id": "sidecar~10.77.200.1~" + name + "." + namespace + "~" + namespace + ".svc.cluster.local", "cluster": name, "locality": map[string]any{},
			"metadata": map[string]any{"GENERATOR": "grpc", "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "INSTANCE_IPS": "10.77.200.1"},
		},
	})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), bootstrapVar+"="+string(bootstrap)))
}

func run(target, name string, rate int, in io.Reader, out io.Writer) error {
	conn, err := grpc.NewClient("xds:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		io.Copy(io.Discard, in)
	}()
	w := bufio.NewWriter(out)
	var mu sync.Mutex // of w
	write := func(c Call) {
		mu.Lock()
		defer mu.Unlock()
		json.NewEncoder(w).Encode(c)
		w.Flush()
	}
	// The first answer opens the stream: a Service that istiod has not heard of
	// yet is no failed call.
	for said := ""; ; {
		c := call(conn, name+"-first")
		if c.Version != "" {
			break
		}
		if c.Err != said {
			said = c.Err
			log.Print(said)
		}
		select {
		case <-ended:
			return fmt.Errorf("no call to %s was ever answered: %s", target, c.Err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	fmt.Fprintln(os.Stderr, "answered")

	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ended:
			return nil
		case <-tick.C:
			wg.Go(func() { write(call(conn, fmt.Sprintf("%s-%d", name, n))) })
		}
	}
}

// patience bounds a call, and how long one that was never sent is repeated: a
// busy machine is not the switching's doing.
const patience = 30 * time.Second

// call makes one call and repeats it as long as it was not sent.
func call(conn *grpc.ClientConn, id string) Call {
	c := Call{ID: id, At: time.Now()}
	for {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", id)
		var answer wrapperspb.StringValue
		var trailer metadata.MD
		err := conn.Invoke(ctx, "/lab.Echo/Echo", &emptypb.Empty{}, &answer, grpc.Trailer(&trailer))
		cancel()
		if err != nil && strings.Contains(err.Error(), unsent) && time.Since(c.At) < patience {
			c.Retries++
			time.Sleep(5 * time.Millisecond)
			continue
		}
		c.Ms = float64(time.Since(c.At).Microseconds()) / 1000
		c.Code = status.Code(err).String()
		if v := trailer.Get("x-version"); len(v) > 0 {
			c.Version = v[0]
		}
		if v := trailer.Get("x-pod"); len(v) > 0 {
			c.Pod = v[0]
		}
		if err != nil {
			c.Err = err.Error()
		}
		return c
	}
}
