#!/usr/bin/env bash
# Builds each overlay with kustomize and validates it against the schemas of Kubernetes, without a cluster and without the
# network: the schemas come with the PyPI package kubernetes-validate (pip install kubernetes-validate).
#
#   deploy/kubernetes/validate.sh [VERSION...]      without arguments: 1.31 and the newest that the package has
#
# PYTHON names the interpreter that has the package [python3]. Where there is no kubectl, which has kustomize in it, the
# resources are validated as they are in their files, and the overlays are not built.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
if [ $# -eq 0 ]; then
    newest=$("$python" -m kubernetes_validate --help | grep -oE '1\.[0-9]+\.[0-9]+' | sort -V | tail -n 1)
    set -- 1.31 "$newest"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# collect NAME: what is to be validated under this name; from standard input.
documents=()
collect() {
    documents+=("$work/${1//\//-}.yaml")
    cat >"${documents[-1]}"
}
if command -v kubectl >/dev/null; then
    for overlay in base overlays/*/; do
        kubectl kustomize "$overlay" >"$work/built"
        collect "${overlay%/}" <"$work/built"
    done
else
    echo 'kubectl is not here: overlays are not built' >&2
    while IFS= read -r file; do
        if grep -q '^apiVersion: ' "$file" && ! grep -q '^kind: Kustomization' "$file"; then collect "$file" <"$file"; fi
    done < <(find . -name '*.yaml')
fi
valid=0
for version; do
    # Fields that the schema does not know are faults too.
    if ! report=$("$python" -m kubernetes_validate --kubernetes-version "$version" --strict "${documents[@]}" 2>&1); then
        printf '%s\n' "$report" | grep -v passed >&2
        echo "not valid for Kubernetes $version" >&2
        exit 1
    fi
    valid=$((valid + $(printf '%s\n' "$report" | grep -c passed)))
done
echo "$valid passed, 0 failed"
