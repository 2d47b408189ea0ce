// Reads a JSON list of TraceQL queries on standard input; answers, for each, where Grafana's own grammar does not
// understand it, and the attributes and intrinsics that it names.
import { readFileSync } from "node:fs";
import { parser } from "@grafana/lezer-traceql";

function judge(query) {
  const errors = [];
  const attributes = [];
  const intrinsics = [];
  parser.parse(query).iterate({
    enter(node) {
      if (node.type.isError) errors.push(`${node.from}: ${query.slice(Math.max(0, node.from - 10), node.to + 10)}`);
      if (node.name === "AttributeField") attributes.push(query.slice(node.from, node.to));
      if (node.name === "IntrinsicField") intrinsics.push(query.slice(node.from, node.to));
    },
  });
  return { errors, attributes, intrinsics };
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(judge)));
