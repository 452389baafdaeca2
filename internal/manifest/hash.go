package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// HashVersion is the number of the way in which TemplateHash hashes. A state
// that was made with another one has to rebind its revisions instead of
// comparing hashes.
const HashVersion = 1

// IgnoredInHash are the parts of a pod template that say nothing about what
// runs. Nulls are left out too, and maps that are empty without these parts.
var IgnoredInHash = []string{
	"metadata.annotations[kubectl.kubernetes.io/restartedAt]", // a restart is not a release
	"metadata.creationTimestamp",                              // tools print it, always null
	"metadata.name",                                           // the API server drops it
}

// TemplateHash gives the hash of a pod template as 10 hex digits. template is
// JSON; what is not JSON, which cannot come from Load, hashes as bytes.
func TemplateHash(template []byte) string {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(template))
	d.UseNumber() // large numbers keep their digits
	if d.Decode(&v) == nil {
		if meta, ok := v["metadata"].(map[string]any); ok {
			delete(meta, "creationTimestamp")
			delete(meta, "name")
			if notes, ok := meta["annotations"].(map[string]any); ok {
				delete(notes, "kubectl.kubernetes.io/restartedAt")
			}
		}
		// Marshal sorts keys.
		if b, err := json.Marshal(withoutNothing(v)); err == nil {
			template = b
		}
	}
	sum := sha256.Sum256(template)
	return hex.EncodeToString(sum[:5])
}

// withoutNothing leaves out nulls, and maps and lists with nothing in them,
// which the API server does not keep apart from absence.
func withoutNothing(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for k, e := range v {
			if e = withoutNothing(e); e != nil {
				kept[k] = e
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, e := range v {
			kept[i] = withoutNothing(e)
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	return v
}
