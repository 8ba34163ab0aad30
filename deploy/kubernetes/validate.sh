#!/usr/bin/env bash
# Builds each overlay with kustomize and validates it against the schemas of Kubernetes, without a cluster and without the
# network: the schemas come with the PyPI package kubernetes-validate (pip install kubernetes-validate).
#
#   deploy/kubernetes/validate.sh [VERSION...]      without arguments: 1.31 and the newest that the package has
set -euo pipefail
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- 1.31 "$(kubernetes-validate --help 2>/dev/null | grep -oE '1\.[0-9]+' | sort -V | tail -n 1)"
built=$(mktemp --suffix=.yaml)
trap 'rm -f "$built"' EXIT
valid=0
for overlay in base overlays/*/; do
    kubectl kustomize "$overlay" >"$built"
    for version; do
        # Fields that the schema does not know are faults too.
        if ! report=$(kubernetes-validate --kubernetes-version "$version" --strict "$built" 2>&1); then
            printf '%s\n' "$report" | grep -v passed >&2
            echo "$overlay is not valid for Kubernetes $version" >&2
            exit 1
        fi
        valid=$((valid + $(printf '%s\n' "$report" | grep -c passed)))
    done
done
echo "$valid passed, 0 failed"
