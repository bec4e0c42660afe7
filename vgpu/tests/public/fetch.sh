#!/bin/sh
# The programs of strangers that tests/it/cuda/public runs, for people with a network: fetch.sh DIRECTORY; then
# VGPU_PUBLIC_SOURCES=DIRECTORY cargo xtask test --package vgpu public. Nothing of them is part of this repository.
set -eu

fetch() {
    git init -q "$1/$3"
    git -C "$1/$3" fetch -q --depth 1 "https://github.com/$2/$3.git" "$4"
    git -C "$1/$3" checkout -q FETCH_HEAD
}

[ $# = 1 ] || { echo "usage: fetch.sh DIRECTORY" >&2; exit 2; }
mkdir -p "$1"
fetch "$1" pranjalssh fast.cu 38eb642e0c081231d6f695978be63604bd7c689b
fetch "$1" deepseek-ai DeepGEMM 54e22612409371d6364144b69086735beb54e98b
fetch "$1" NVIDIA cutlass 7107b05535f8977f5ecb9d01ee203205b1fd9bc4
fetch "$1" Dao-AILab flash-attention 0251105a2fb19d2957484b7f023cd8c115286ced
fetch "$1" NVIDIA cuda-samples HEAD
fetch "$1" karpathy llm.c HEAD
