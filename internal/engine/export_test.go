package engine

// DecideWith puts another policy in the engine's mind, for the cases that the
// real one is made never to bring about.
func (e *Engine) DecideWith(p Policy) { e.mind.decide = p }
