package spec

import "testing"

const webYAML = `# a web server
family: web
cpu: .5 vCPU
memory: 1GB
containerDefinitions:
  - name: web
    image: nginx:1.27
    portMappings:
      - containerPort: 80
        hostPort: 8080
        name: http
    environment:
      - name: MODE
        value: "prod"
    dockerLabels:
      team: a
    healthCheck:
      command: [CMD-SHELL, "curl -f localhost || exit 1"]
`

func TestSmoke(t *testing.T) {
	docs, err := Load("web.yaml", []byte(webYAML))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", docs[0].TaskDefinition.Defaulted())
	t.Log(Hash(*docs[0].TaskDefinition))
}
