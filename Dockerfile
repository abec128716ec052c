# A service of a model and an index in a volume:
#   docker compose up          (compose.yaml)
# CPU builds of PyTorch are smaller: --build-arg PIP_OPTIONS="--extra-index-url <PyTorch's index of CPU builds>"
FROM python:3.11-slim

ARG PIP_OPTIONS=""
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

WORKDIR /app
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY e2fashion ./e2fashion
RUN pip install --no-cache-dir --constraint constraints.txt ${PIP_OPTIONS} '.[fast,serve]' \
    && useradd --create-home service

USER service
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["e2fashion"]
CMD ["serve", "/data/model", "index=/data/index", "host=0.0.0.0"]
