package remote

import "context"

// Who is the user as the API server knows them; it is asked once.
func (c *Client) Who(ctx context.Context) (string, error) { return c.who(ctx) }
