// Reads Kubernetes documents (a JSON array) on standard input, and writes for each custom resource that it knows a line
// for what breaks its type. Exit code 1 if there is one. Run where node_modules is: node validate.mjs < documents.json
import { readFileSync } from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const KINDS = { ScaledObject, PrometheusRule, ServiceMonitor };
let wrong = 0;
for (const document of JSON.parse(readFileSync(0, "utf-8"))) {
  const Kind = KINDS[document.kind];
  if (!Kind) continue;
  const name = `${document.kind} ${document.metadata?.name}`;
  try {
    if (document.apiVersion !== new Kind().apiVersion) throw new Error(`apiVersion is ${document.apiVersion}`);
    new Kind(document).validate();
    console.log(`${name}: good`);
  } catch (error) {
    wrong += 1;
    console.log(`${name}: ${error.message}`);
  }
}
process.exit(wrong ? 1 : 0);
