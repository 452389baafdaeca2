package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// greeter is an application that speaks gRPC, with the service that gRPC's own
// implementations are tested with.
type greeter struct {
	pb.UnimplementedTestServiceServer
	version string
	seen    journal
}

func (g *greeter) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs("version", g.version))
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("echo", strings.Join(in.Get("echo"), ","), "raw-bin", strings.Join(in.Get("raw-bin"), "")))
	}
	g.seen.note(string(r.GetPayload().GetBody()))
	if s := r.ResponseStatus; s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	return &pb.SimpleResponse{Payload: r.Payload, Username: g.version}, nil
}

func (g *greeter) FullDuplexCall(s pb.TestService_FullDuplexCallServer) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("version", g.version))
			return nil
		}
		if err != nil {
			return err
		}
		g.seen.note(string(r.GetPayload().GetBody()))
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

func (g *greeter) StreamingInputCall(s pb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(r.Payload.GetBody())
	}
}

// greet serves until SIGTERM, and ends in order then.
func greet(args []string) {
	f := flag.NewFlagSet("greeter", flag.ExitOnError)
	g := &greeter{}
	f.StringVar(&g.version, "version", "", "what it answers with")
	ids := f.String("ids", "", "folder for the ids of calls and messages")
	_ = f.Parse(args)
	var err error
	if g.seen, err = openJournal(*ids); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	pb.RegisterTestServiceServer(srv, g)
	go func() {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		srv.GracefulStop()
	}()
	_ = srv.Serve(l)
}

// grpcDeployment is deploymentOf for a version that speaks gRPC.
func grpcDeployment(version string, args ...string) string {
	d := deploymentOf(version, 1, args...)
	d = strings.Replace(d, "value: backend}", "value: grpc}", 1)
	i := strings.Index(d, "        readinessProbe:")
	return d[:i]
}

func body(s string) *pb.Payload { return &pb.Payload{Body: []byte(s)} }

// A real client and a real server of gRPC on both sides of the gateway, from
// documents: calls of every shape, metadata and trailers, statuses as the judge
// counts them, and a release in the middle of calls.
func TestGRPCThroughTheGateway(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["00-service.yaml"] = strings.Replace(service, "{protocol: TCP,", "{name: grpc, protocol: TCP,", 1)
	files["01-deployment-v1.yaml"] = grpcDeployment("v1")
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	conn, err := grpc.NewClient("passthrough:///"+w.d.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := pb.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	// One answer to one question, with metadata both ways.
	var header, trailer metadata.MD
	sent := metadata.AppendToOutgoingContext(ctx, "echo", "a", "echo", "b", "raw-bin", "\x00\xff")
	got, err := c.UnaryCall(sent, &pb.SimpleRequest{Payload: body("hello")}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || string(got.Payload.Body) != "hello" {
		t.Fatalf("%v %v", got, err)
	}
	if diff := cmp.Diff([]string{"v1 a,b \x00\xff"}, []string{strings.Join(header.Get("version"), "") + " " + strings.Join(trailer.Get("echo"), "") + " " + strings.Join(trailer.Get("raw-bin"), "")}); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	large := strings.Repeat("x", 4<<20)
	if got, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: body(large)}); err != nil || string(got.Payload.Body) != large {
		t.Errorf("4 MiB each way: %v", err)
	}

	// Statuses arrive as they are; which of them are the version's fault, counts.
	before, _ := w.figures("v1")
	errorsBefore := before.Endpoints[0].Errors
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(code), Message: "as asked: é"}})
		if s := status.Convert(err); s.Code() != code || s.Message() != "as asked: é" {
			t.Errorf("%s arrived as %s %q", code, s.Code(), s.Message())
		}
	}
	if _, err := c.UnimplementedCall(ctx, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a call that is not there: %v", err)
	}
	w.eventually("the version's faults are counted, and what callers did wrong is not", func() bool {
		v1, _ := w.figures("v1")
		return v1.Endpoints[0].Errors-errorsBefore == 7 // Unknown, DeadlineExceeded, Internal, Unavailable, DataLoss, and Unimplemented twice
	})

	// A caller who gives up is nobody's fault, and nothing of it stays.
	gone, giveUp := context.WithCancel(ctx)
	hanging, err := c.FullDuplexCall(gone)
	if err != nil {
		t.Fatal(err)
	}
	giveUp()
	if _, err := hanging.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("given up: %v", err)
	}

	// Many messages one way, and both ways in turn, while v2 gets its share and then
	// everything: a call stays where it began and comes to its end there.
	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	turn := func(n int) {
		t.Helper()
		if err := errors.Join(in.Send(&pb.StreamingInputCallRequest{Payload: body("12345")}), both.Send(&pb.StreamingOutputCallRequest{Payload: body(fmt.Sprint(n))})); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		if r, err := both.Recv(); err != nil || string(r.Payload.Body) != fmt.Sprint(n) {
			t.Fatalf("message %d: %v %v", n, r, err)
		}
	}
	for n := range 10 {
		turn(n)
	}
	w.write("04-deployment-v2.yaml", grpcDeployment("v2"))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	versions := map[string]int{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 50 {
				r, err := c.UnaryCall(ctx, &pb.SimpleRequest{})
				mu.Lock()
				if err != nil {
					t.Errorf("while v2 has a quarter: %v", err)
				} else {
					versions[r.Username]++
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if diff := cmp.Diff(map[string]int{"v1": 300, "v2": 100}, versions); diff != "" {
		t.Errorf("400 calls at 25 %% (-want +got):\n%s", diff)
	}
	for n := range 10 {
		turn(10 + n)
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) || strings.Join(both.Trailer().Get("version"), "") != "v1" {
		t.Errorf("the call both ways ended with %v, trailer %v", err, both.Trailer())
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 100 {
		t.Errorf("the call one way ended with %v, %v", sum, err)
	}
}
