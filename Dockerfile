# The program `bnrepro` on a CPU, as its user; a volume keeps what it writes:
#   docker build -t bnrepro .
#   docker run --rm -v bnrepro:/study bnrepro figure1
FROM python:3.12-slim
COPY requirements.lock /build/
RUN pip install --no-cache-dir --require-hashes -r /build/requirements.lock
COPY pyproject.toml setup.py README.md LICENSE /build/
COPY conf /build/conf
COPY results/paper.csv /build/results/
COPY scripts /build/scripts
COPY src /build/src
RUN pip install --no-cache-dir --no-deps --no-build-isolation /build
RUN useradd --create-home --uid 1000 bnrepro && install -d -o bnrepro /study
USER 1000
WORKDIR /study
ENTRYPOINT ["bnrepro"]
