package manifest

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// The parts of Kubernetes and Istio objects that are read. Field by field they
// follow the lines marked used in capabilities.go.

type objectMeta struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type deploymentObject struct {
	Metadata objectMeta `json:"metadata"`
	Spec     struct {
		Replicas *int32 `json:"replicas"`
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Spec podSpecObject `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type podSpecObject struct {
	TerminationGracePeriodSeconds *int64            `json:"terminationGracePeriodSeconds"`
	Containers                    []containerObject `json:"containers"`
}

type containerObject struct {
	Name       string   `json:"name"`
	Image      string   `json:"image"`
	Command    []string `json:"command"`
	Args       []string `json:"args"`
	WorkingDir string   `json:"workingDir"`
	Env        []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int32  `json:"containerPort"`
	} `json:"ports"`
	ReadinessProbe *probeObject `json:"readinessProbe"`
}

type probeObject struct {
	HTTPGet *struct {
		Path        string  `json:"path"`
		Port        portRef `json:"port"`
		Scheme      string  `json:"scheme"`
		HTTPHeaders []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"httpHeaders"`
	} `json:"httpGet"`
	TCPSocket *struct {
		Port portRef `json:"port"`
	} `json:"tcpSocket"`
	InitialDelaySeconds int32 `json:"initialDelaySeconds"`
	PeriodSeconds       int32 `json:"periodSeconds"`
	TimeoutSeconds      int32 `json:"timeoutSeconds"`
	SuccessThreshold    int32 `json:"successThreshold"`
	FailureThreshold    int32 `json:"failureThreshold"`
}

type serviceObject struct {
	Metadata objectMeta `json:"metadata"`
	Spec     struct {
		Selector map[string]string `json:"selector"`
		Ports    []servicePort     `json:"ports"`
	} `json:"spec"`
}

type servicePort struct {
	Name        string  `json:"name"`
	Port        int32   `json:"port"`
	TargetPort  portRef `json:"targetPort"`
	AppProtocol string  `json:"appProtocol"`
}

type destinationRuleObject struct {
	Metadata objectMeta `json:"metadata"`
	Spec     struct {
		Host    string `json:"host"`
		Subsets []struct {
			Name          string               `json:"name"`
			Labels        map[string]string    `json:"labels"`
			TrafficPolicy *trafficPolicyObject `json:"trafficPolicy"`
		} `json:"subsets"`
		TrafficPolicy *trafficPolicyObject `json:"trafficPolicy"`
	} `json:"spec"`
}

type trafficPolicyObject struct {
	LoadBalancer struct {
		ConsistentHash *consistentHashObject `json:"consistentHash"`
	} `json:"loadBalancer"`
	ConnectionPool struct {
		TCP struct {
			MaxConnections *int32 `json:"maxConnections"`
		} `json:"tcp"`
		HTTP struct {
			HTTP1MaxPendingRequests *int32 `json:"http1MaxPendingRequests"`
			HTTP2MaxRequests        *int32 `json:"http2MaxRequests"`
			H2UpgradePolicy         string `json:"h2UpgradePolicy"`
		} `json:"http"`
	} `json:"connectionPool"`
}

type consistentHashObject struct {
	HTTPHeaderName string `json:"httpHeaderName"`
	HTTPCookie     *struct {
		Name string  `json:"name"`
		Path string  `json:"path"`
		TTL  *string `json:"ttl"`
	} `json:"httpCookie"`
}

type virtualServiceObject struct {
	Metadata objectMeta `json:"metadata"`
	Spec     struct {
		Hosts []string    `json:"hosts"`
		HTTP  []httpRoute `json:"http"`
	} `json:"spec"`
}

type httpRoute struct {
	Name  string             `json:"name"`
	Match []httpMatch        `json:"match"`
	Route []routeDestination `json:"route"`

	Timeout          string             `json:"timeout"`
	Retries          *retriesObject     `json:"retries"`
	Rewrite          *rewriteObject     `json:"rewrite"`
	Mirror           *destinationObject `json:"mirror"`
	MirrorPercentage *percentObject     `json:"mirrorPercentage"`
	Mirrors          []struct {
		Destination destinationObject `json:"destination"`
		Percentage  *percentObject    `json:"percentage"`
	} `json:"mirrors"`
	Headers *struct {
		Request  headerOperations `json:"request"`
		Response headerOperations `json:"response"`
	} `json:"headers"`
}

type retriesObject struct {
	Attempts      int32  `json:"attempts"`
	PerTryTimeout string `json:"perTryTimeout"`
	RetryOn       string `json:"retryOn"`
}

type rewriteObject struct {
	URI       string `json:"uri"`
	Authority string `json:"authority"`
}

type percentObject struct {
	Value percentage `json:"value"`
}

// percentage is a number such as 0.1.
type percentage float64

// UnmarshalJSON reads a number.
func (p *percentage) UnmarshalJSON(b []byte) error {
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("%s: a number from 0 to 100 is meant", clip(string(b)))
	}
	*p = percentage(v)
	return nil
}

type headerOperations struct {
	Set    map[string]string `json:"set"`
	Add    map[string]string `json:"add"`
	Remove []string          `json:"remove"`
}

type httpMatch struct {
	URI     *stringMatch           `json:"uri"`
	Method  *stringMatch           `json:"method"`
	Scheme  *stringMatch           `json:"scheme"`
	Headers map[string]stringMatch `json:"headers"`

	WithoutHeaders map[string]stringMatch `json:"withoutHeaders"`
	QueryParams    map[string]stringMatch `json:"queryParams"`
	IgnoreURICase  bool                   `json:"ignoreUriCase"`
}

type stringMatch struct {
	Exact  *string `json:"exact"`
	Prefix *string `json:"prefix"`
	Regex  *string `json:"regex"`
}

type routeDestination struct {
	Destination destinationObject `json:"destination"`
	Weight      *int32            `json:"weight"`
}

type destinationObject struct {
	Host   string `json:"host"`
	Subset string `json:"subset"`
	Port   struct {
		Number int32 `json:"number"`
	} `json:"port"`
}

// portRef is a port's number or name.
type portRef struct {
	Number int
	Name   string
}

func (p portRef) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(p.Number)
}

func (p portRef) given() bool { return p != portRef{} }

// UnmarshalJSON reads a number or a name.
func (p *portRef) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case float64:
		if v != float64(int(v)) || v < 1 || v > 65535 {
			return fmt.Errorf("%s: a port is from 1 to 65535", clip(string(b)))
		}
		p.Number = int(v)
		return nil
	case string:
		if v != "" && len(v) <= 63 {
			p.Name = v
			return nil
		}
	}
	return fmt.Errorf("%s: a port's number or name is meant", clip(string(b)))
}
