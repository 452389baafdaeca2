package lab

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
)

// article are the founding scenario's objects, as they were published.
//
//go:embed article
var article embed.FS

// Article applies the founding scenario at rest: the Service, v1, the
// DestinationRule and the VirtualService.
func (c *Cluster) Article(ctx context.Context, namespace string) error {
	for _, name := range []string{"00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml"} {
		b, err := fs.ReadFile(article, "article/"+name)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, namespace, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Version applies the Deployment of a version: v2's as it was published, with
// another label where another one is meant.
func (c *Cluster) Version(ctx context.Context, namespace, version string, replicas int) error {
	b, err := fs.ReadFile(article, "article/04-deployment-v2.yaml")
	if err != nil {
		return err
	}
	b = bytes.ReplaceAll(b, []byte("v2"), []byte(version))
	b = bytes.ReplaceAll(b, []byte("replicas: 2"), fmt.Appendf(nil, "replicas: %d", replicas))
	return c.Apply(ctx, namespace, b)
}
