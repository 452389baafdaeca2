package manifest

import (
	"errors"
	"fmt"
	"strings"
)

// ParseRun reads what says how the containers of an image are started:
// IMAGE=COMMAND, for example my-registry/my-app:v1='./bin/my-app -version v1'.
func ParseRun(s string) (image string, command []string, err error) {
	image, line, ok := strings.Cut(s, "=")
	if image = strings.TrimSpace(image); !ok || image == "" {
		return "", nil, fmt.Errorf("%q: want IMAGE=COMMAND, such as my-registry/my-app:v1='./bin/my-app -version v1'", clip(s))
	}
	command, err = SplitWords(line)
	if err == nil && (len(command) == 0 || command[0] == "") {
		err = errors.New("no command after =")
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", clip(image), err)
	}
	return image, command, nil
}

// shellOnly are characters that ask a shell for something. Taken as plain text
// they would reach the program, which is not what was meant.
const shellOnly = "|&;<>`\n"

// SplitWords splits a command line as a shell splits words: at spaces and
// tabs; '...' is literal; in "..." a backslash goes before ", \, $ and `;
// elsewhere it goes before anything. There is no shell: nothing is expanded,
// and what only a shell can do is an error.
func SplitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	if strings.IndexByte(line, 0) >= 0 {
		return nil, errors.New("a zero byte: no argument can carry it")
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case c == '\'' || c == '"':
			end, err := quoted(line[i+1:], c, &word)
			if err != nil {
				return nil, err
			}
			i, inWord = i+1+end, true
		case c == '\\':
			if i+1 == len(line) {
				return nil, errors.New(`a backslash at the end: nothing follows that it could quote`)
			}
			i++
			word.WriteByte(line[i])
			inWord = true
		case strings.IndexByte(shellOnly, c) >= 0:
			return nil, fmt.Errorf("%q: no shell is involved here: put it in quotes if it is meant literally, or run sh -c '...'", c)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted reads up to the closing quote and gives its index.
func quoted(s string, quote byte, word *strings.Builder) (int, error) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == quote:
			return i, nil
		case s[i] == '\\' && quote == '"' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
		}
		word.WriteByte(s[i])
	}
	return 0, fmt.Errorf("a quote (%c) is opened and never closed", quote)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
