package spec_test

import (
	"fmt"

	"ecsd/pkg/spec"
)

// Every error of a file comes at once, each with its place.
func ExampleLoad() {
	_, err := spec.Load("web.yaml", []byte(`family: web
memory: 1GB
containerDefinitions:
- name: web
  imgae: nginx
  portMappings:
  - containerPort: 80
    hostPort: 80800
- name: log
  image: busybox
  dependsOn: [{containerName: web, condition: HEALTHY}]
`))
	fmt.Println(err)
	// Output:
	// web.yaml:5:3: containerDefinitions[0].imgae: unknown field: did you mean "image"?
	// web.yaml:8:15: containerDefinitions[0].portMappings[0].hostPort: must be between 0 (any free port) and 65535, not 80800
	// web.yaml:11:47: containerDefinitions[1].dependsOn[0].condition: HEALTHY waits for a health check, and "web" has none
}

// What is accepted and has no effect is said, not dropped.
func ExampleDocument_NotCarriedOut() {
	docs, err := spec.Load("web.yaml", []byte(`family: web
memory: 512
taskRoleArn: web-role
containerDefinitions:
- {name: web, image: nginx}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, said := range docs[0].NotCarriedOut() {
		fmt.Println(said)
	}
	// Output:
	// taskRoleArn: not carried out yet: tasks get no credentials of a role
}
