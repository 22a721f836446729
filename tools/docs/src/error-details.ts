import { readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { ROOT } from "./documents.js";

/** The fields of each error code, as core's `ErrorDetails` declares them. */
export function errorDetails(): Map<string, string[]> {
  const path = join(ROOT, "packages/core/src/errors.ts");
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.ES2022);
  const nameOf = (member: ts.TypeElement): string => (member.name as ts.Identifier).text;
  const codes = new Map<string, string[]>();
  for (const statement of source.statements) {
    if (!ts.isInterfaceDeclaration(statement) || statement.name.text !== "ErrorDetails") continue;
    for (const member of statement.members) {
      const type = ts.isPropertySignature(member) ? member.type : undefined;
      if (type && ts.isTypeLiteralNode(type)) codes.set(nameOf(member), type.members.map(nameOf));
    }
  }
  return codes;
}
