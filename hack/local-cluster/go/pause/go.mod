module knowledgebeast.io/hack/local-cluster/pause

go 1.26.0
