package trial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// condition is a parsed success or failure condition of an analysis template,
// over the vector `result`.
type condition struct{ root node }

// holds evaluates it. An error is one of evaluation, such as an index out of
// the vector.
func (c *condition) holds(result []float64) (bool, error) {
	v, err := c.root(result)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, errors.New("it is not true or false")
	}
	return b, nil
}

// node gives a float64, a bool or a []float64.
type node func(result []float64) (any, error)

// parseCondition understands comparisons of result[N], result, len(result) and
// numbers, with &&, ||, !, parentheses, + - * /, isNaN, isInf, asFloat, asInt
// and default.
func parseCondition(text string) (*condition, error) {
	p := &conditionParser{}
	if err := p.scan(text); err != nil {
		return nil, err
	}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.at < len(p.tokens) {
		return nil, fmt.Errorf("%q is not understood here", p.tokens[p.at])
	}
	return &condition{n}, nil
}

type conditionParser struct {
	tokens []string
	at     int
}

func (p *conditionParser) scan(text string) error {
	rs := []rune(text)
	for i := 0; i < len(rs); {
		r := rs[i]
		take := func(f func(rune) bool) {
			j := i
			for j < len(rs) && f(rs[j]) {
				j++
			}
			p.tokens = append(p.tokens, string(rs[i:j]))
			i = j
		}
		switch {
		case unicode.IsSpace(r):
			i++
		case unicode.IsDigit(r) || r == '.':
			take(func(r rune) bool { return unicode.IsDigit(r) || r == '.' || r == 'e' })
		case unicode.IsLetter(r):
			take(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' })
		default:
			two := string(rs[i:min(i+2, len(rs))])
			switch two {
			case "&&", "||", "==", "!=", ">=", "<=":
				p.tokens = append(p.tokens, two)
				i += 2
				continue
			}
			if !strings.ContainsRune("()[]<>!+-*/,", r) {
				return fmt.Errorf("%q is not understood", string(r))
			}
			p.tokens = append(p.tokens, string(r))
			i++
		}
	}
	if len(p.tokens) == 0 {
		return errors.New("it is empty")
	}
	return nil
}

func (p *conditionParser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *conditionParser) accept(ts ...string) string {
	for _, t := range ts {
		if p.peek() == t {
			p.at++
			return t
		}
	}
	return ""
}

func (p *conditionParser) expect(t string) error {
	if p.accept(t) == "" {
		if p.peek() == "" {
			return fmt.Errorf("it ends where %q is missing", t)
		}
		return fmt.Errorf("%q where %q is meant", p.peek(), t)
	}
	return nil
}

func (p *conditionParser) or() (node, error) {
	return p.chain(p.and, map[string]func(bool) bool{"||": func(b bool) bool { return b }, "or": func(b bool) bool { return b }})
}

func (p *conditionParser) and() (node, error) {
	return p.chain(p.comparison, map[string]func(bool) bool{"&&": func(b bool) bool { return !b }, "and": func(b bool) bool { return !b }})
}

// chain reads operands with one operator between them; decides says whether the
// left one settles it.
func (p *conditionParser) chain(operand func() (node, error), ops map[string]func(bool) bool) (node, error) {
	left, err := operand()
	if err != nil {
		return nil, err
	}
	for {
		decides, ok := ops[p.peek()]
		if !ok {
			return left, nil
		}
		p.at++
		right, err := operand()
		if err != nil {
			return nil, err
		}
		l := left
		left = func(result []float64) (any, error) {
			a, err := truth(l, result)
			if err != nil || decides(a) {
				return a, err
			}
			return truth(right, result)
		}
	}
}

func truth(n node, result []float64) (bool, error) {
	v, err := n(result)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, errors.New("true or false is meant")
	}
	return b, nil
}

func number(n node, result []float64) (float64, error) {
	v, err := n(result)
	if err != nil {
		return 0, err
	}
	x, ok := v.(float64)
	if !ok {
		return 0, errors.New("a number is meant")
	}
	return x, nil
}

func (p *conditionParser) comparison() (node, error) {
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	op := p.accept("==", "!=", ">=", "<=", ">", "<")
	if op == "" {
		return left, nil
	}
	right, err := p.sum()
	if err != nil {
		return nil, err
	}
	return func(result []float64) (any, error) {
		a, err := number(left, result)
		if err != nil {
			return nil, err
		}
		b, err := number(right, result)
		if err != nil {
			return nil, err
		}
		switch op {
		case "==":
			return a == b, nil
		case "!=":
			return a != b, nil
		case ">=":
			return a >= b, nil
		case "<=":
			return a <= b, nil
		case ">":
			return a > b, nil
		}
		return a < b, nil
	}, nil
}

func (p *conditionParser) sum() (node, error) {
	return p.arithmetic(p.product, "+", "-")
}

func (p *conditionParser) product() (node, error) {
	return p.arithmetic(p.unary, "*", "/")
}

func (p *conditionParser) arithmetic(operand func() (node, error), ops ...string) (node, error) {
	left, err := operand()
	if err != nil {
		return nil, err
	}
	for {
		op := p.accept(ops...)
		if op == "" {
			return left, nil
		}
		right, err := operand()
		if err != nil {
			return nil, err
		}
		l := left
		left = func(result []float64) (any, error) {
			a, err := number(l, result)
			if err != nil {
				return nil, err
			}
			b, err := number(right, result)
			if err != nil {
				return nil, err
			}
			switch op {
			case "+":
				return a + b, nil
			case "-":
				return a - b, nil
			case "*":
				return a * b, nil
			}
			return a / b, nil
		}
	}
}

func (p *conditionParser) unary() (node, error) {
	switch p.accept("!", "not", "-") {
	case "!", "not":
		n, err := p.unary()
		if err != nil {
			return nil, err
		}
		return func(result []float64) (any, error) {
			b, err := truth(n, result)
			return !b, err
		}, nil
	case "-":
		n, err := p.unary()
		if err != nil {
			return nil, err
		}
		return func(result []float64) (any, error) {
			x, err := number(n, result)
			return -x, err
		}, nil
	}
	return p.operand()
}

func (p *conditionParser) operand() (node, error) {
	t := p.peek()
	p.at++
	switch {
	case t == "":
		return nil, errors.New("it ends where a value is missing")
	case t == "(":
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	case t == "true" || t == "false":
		return func([]float64) (any, error) { return t == "true", nil }, nil
	case t == "result":
		return p.result()
	case unicode.IsDigit(rune(t[0])) || t[0] == '.':
		x, err := strconv.ParseFloat(t, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", t)
		}
		return func([]float64) (any, error) { return x, nil }, nil
	}
	if err := p.expect("("); err != nil {
		return nil, fmt.Errorf("%q is not understood", t)
	}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	var call node
	switch t {
	case "len":
		call = func(result []float64) (any, error) {
			v, err := n(result)
			if err != nil {
				return nil, err
			}
			x, ok := v.([]float64)
			if !ok {
				return nil, errors.New("len of what is no list")
			}
			return float64(len(x)), nil
		}
	case "isNaN", "isInf":
		call = func(result []float64) (any, error) {
			x, err := number(n, result)
			if t == "isNaN" {
				return math.IsNaN(x), err
			}
			return math.IsInf(x, 0), err
		}
	case "asFloat":
		call = n
	case "asInt":
		call = func(result []float64) (any, error) {
			x, err := number(n, result)
			return math.Trunc(x), err
		}
	case "default":
		if err := p.expect(","); err != nil {
			return nil, err
		}
		other, err := p.or()
		if err != nil {
			return nil, err
		}
		call = func(result []float64) (any, error) {
			if v, err := n(result); err == nil {
				return v, nil
			}
			return other(result)
		}
	default:
		return nil, fmt.Errorf("the function %s is not understood", t)
	}
	return call, p.expect(")")
}

func (p *conditionParser) result() (node, error) {
	if p.accept("[") == "" {
		return func(result []float64) (any, error) { return result, nil }, nil
	}
	i, err := strconv.Atoi(p.peek())
	if err != nil || i < 0 {
		return nil, fmt.Errorf("result[%s]: a whole number is meant", p.peek())
	}
	p.at++
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	return func(result []float64) (any, error) {
		if i >= len(result) {
			return nil, fmt.Errorf("result[%d] of %d", i, len(result))
		}
		return result[i], nil
	}, nil
}
