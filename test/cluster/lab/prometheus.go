package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Query asks Prometheus and tells how many series answer.
func (c *Cluster) Query(ctx context.Context, query string) (series int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+PrometheusAddress+"/api/v1/query?"+url.Values{"query": {query}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var body struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return 0, err
	}
	if body.Status != "success" {
		return 0, fmt.Errorf("%s: %s", query, body.Error)
	}
	return len(body.Data.Result), nil
}
