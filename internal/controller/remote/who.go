package remote

import "context"

// Who is the user as the API server knows them; it is asked once.
func (c *Client) Who(ctx context.Context) (string, error) {
	user, _, err := c.who(ctx)
	return user, err
}
