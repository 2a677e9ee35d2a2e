# Sourced: transformers, PEFT, compressed-tensors and MLX from PyPI in a venv of the user's cache
# folder, on the LibTorch that the build uses (tools/setup.sh, sourced before).
#
#   install_peers            once; fails when PyPI does not answer
#   run_peer_python ARG...   that venv's python, in this shell's place

venv="${XDG_CACHE_HOME:-$HOME/.cache}/lapidary/interop-2"
peers=(numpy safetensors transformers==5.17.0 "huggingface_hub>=1.5,<2" sentencepiece protobuf jinja2
  "mlx[cpu]==0.32.4; platform_system == 'Linux'")
peers_alone=(compressed-tensors==0.20.0 peft==0.21.2 accelerate mlx-lm==0.32.2)  # each asks for torch
torch_needs=(filelock sympy networkx fsspec typing_extensions psutil loguru pydantic regex pyyaml)

# The wheels of the CUDA libraries that LibTorch's Python module names and this machine lacks.
cuda_wheels() {
  local known pair
  known=$(/sbin/ldconfig -p)
  for pair in cudart.so.13=nvidia-cuda-runtime==13.0.* cupti.so.13=nvidia-cuda-cupti==13.0.* \
    cufile.so.0=nvidia-cufile cusparseLt.so.0=nvidia-cusparselt-cu13 \
    nvshmem_host.so.3=nvidia-nvshmem-cu13 cusparse.so.12=nvidia-cusparse cufft.so.12=nvidia-cufft \
    curand.so.10=nvidia-curand cublas.so.13=nvidia-cublas cudnn.so.9=nvidia-cudnn-cu13 \
    nccl.so.2=nvidia-nccl-cu13 nvJitLink.so.13=nvidia-nvjitlink nvrtc.so.13=nvidia-cuda-nvrtc; do
    grep -q "lib${pair%%=*}" <<<"$known" || echo "${pair#*=}"
  done
}

# Made beside the final place and marked when complete, so that an interrupted install starts again.
install_peers() {
  [ -e "$venv/complete" ] && return
  echo "installing transformers, compressed-tensors, PEFT and MLX into $venv (once)" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  local packages wheels
  packages=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
  mapfile -t wheels < <(cuda_wheels)
  echo "$libtorch_folder" >"$packages/libtorch.pth"
  "$venv/bin/pip" install --quiet "${peers[@]}" "${torch_needs[@]}" >&2
  "$venv/bin/pip" install --quiet --no-deps "${peers_alone[@]}" "${wheels[@]}" >&2
  touch "$venv/complete"
}

run_peer_python() {
  local libraries
  libraries=$(find "$venv" -path '*/nvidia/*' -name lib -type d 2>/dev/null | tr '\n' ':')
  LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:-}" HF_HUB_OFFLINE=1 exec "$venv/bin/python" "$@"
}
