# From a commit to a cluster, one target a step; the workflow in deploy/pipelines/software.yaml calls these and nothing
# else. Each runs on a developer's machine as well: `make images ENGINE=buildah`, `make load-gate URL=localhost:8001`.
ENGINE      ?= docker
REGISTRY    ?= localhost/fraudserve
TAG         ?= $(shell git rev-parse --short=12 HEAD)
IMAGES      := server sidecar load tools
SCANNERS    ?= secret,misconfig
ENVIRONMENT ?= staging
HARDWARE    ?= cpu
SCENARIO    ?= smoke
# further options of fraudctl load run, for URL: who calls, where that is a gateway
LOAD        ?=
KUBECTL     ?= $(VENV)-deploy/bin/kubectl
HELM        ?= $(VENV)-deploy/bin/helm
NAMESPACE   ?= fraud
CONTEXT     ?= $(ENVIRONMENT)
DIGESTS     := var/images.yaml

.PHONY: scan images push sign deploy back load-gate

scan: deploy-tools ## secrets and misconfigurations in the tree; with SCANNERS=vuln,secret,misconfig known holes too
	@$(VENV)-deploy/bin/trivy fs --quiet --skip-version-check --skip-check-update --scanners $(SCANNERS) --exit-code 1 \
	    --skip-dirs $(VENV) --skip-dirs $(VENV)-deploy --skip-dirs var .

images: ## the four images; needs TRITON_DIGEST and BASE_DIGEST (docs/images.md)
	@$(ENGINE) build -f deploy/docker/server.Dockerfile --build-arg TRITON_DIGEST=$(TRITON_DIGEST) \
	    -t $(REGISTRY)/server:$(TAG) .
	@for image in $(filter-out server,$(IMAGES)); do \
	    $(ENGINE) build -f deploy/docker/python.Dockerfile --target $$image --build-arg BASE_DIGEST=$(BASE_DIGEST) \
	    -t $(REGISTRY)/$$image:$(TAG) . || exit 1; done

push: ## the images into REGISTRY; their digests into var/images.yaml, as the chart takes them
	@mkdir -p $(dir $(DIGESTS)) && printf 'images:\n' > $(DIGESTS).new
	@for image in $(IMAGES); do \
	    $(ENGINE) push $(REGISTRY)/$$image:$(TAG) || exit 1; \
	    digest=$$($(ENGINE) inspect --format '{{index .RepoDigests 0}}' $(REGISTRY)/$$image:$(TAG)) || exit 1; \
	    printf '  %s: {repository: %s/%s, digest: %s}\n' $$image $(REGISTRY) $$image $${digest#*@} >> $(DIGESTS).new; done
	@mv $(DIGESTS).new $(DIGESTS)

sign: ## signatures and bills of materials beside the images that var/images.yaml names, by cosign
	@for image in $(IMAGES); do \
	    digest=$$(sed -n "s/^  $$image: .*digest: \(.*\)}/\1/p" $(DIGESTS)); \
	    test -n "$$digest" || { echo "sign: $(DIGESTS) has no $$image; run: make push"; exit 1; }; \
	    cosign sign --yes $(REGISTRY)/$$image@$$digest || exit 1; \
	    cosign attest --yes --type cyclonedx --predicate var/sbom/$$image.cdx.json $(REGISTRY)/$$image@$$digest || exit 1; done

deploy: deploy-tools ## the chart and var/images.yaml into ENVIRONMENT, a context of kubectl; SETTINGS is its values file; back by itself if it fails
	@$(HELM) --kube-context $(CONTEXT) upgrade --install fraudserve deploy/helm/fraudserve --namespace $(NAMESPACE) \
	    --values deploy/helm/fraudserve/values-$(HARDWARE).yaml --values $(DIGESTS) $(SETTINGS:%=--values %) \
	    --rollback-on-failure --wait --timeout 20m

back: deploy-tools ## ENVIRONMENT as it was before the last deploy
	@$(HELM) --kube-context $(CONTEXT) rollback fraudserve --namespace $(NAMESPACE) --wait --timeout 20m

load-gate: deploy-tools ## SCENARIO against ENVIRONMENT, or against URL; exit code 1 where a target is missed
	@if [ -n "$(URL)" ]; then exec $(BIN)/fraudctl load run $(SCENARIO) --url $(URL) $(LOAD) --out var/load/$(ENVIRONMENT); fi; \
	$(KUBECTL) --context $(CONTEXT) --namespace $(NAMESPACE) port-forward service/fraudserve-server 18001:8001 18002:8002 >/dev/null & \
	forward=$$!; trap 'kill $$forward' EXIT; \
	$(KUBECTL) --context $(CONTEXT) --namespace $(NAMESPACE) wait --for=condition=Ready --timeout=120s pod -l app.kubernetes.io/component=server \
	&& $(BIN)/fraudctl load run $(SCENARIO) --url 127.0.0.1:18001 --metrics-url http://127.0.0.1:18002/metrics \
	    --out var/load/$(ENVIRONMENT)
