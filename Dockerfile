# syntax=docker/dockerfile:1
# Two images of the same project: `platform`, without PyTorch, for every Airflow process, and `trainer` for the
# workers of queue `gpu`. Each image has its own lock file, and installs only files whose hashes are in it.
ARG AIRFLOW_VERSION=3.3.2
ARG PYTHON_VERSION=3.12
# Digest of the base image, such as sha256:0123...: a tag can be moved to another image, a digest cannot. Look it up
# once before you build, as docs/supply-chain.md describes, and pass it with --build-arg.
ARG AIRFLOW_DIGEST=

FROM scratch AS project
COPY config/s3-policies /config/s3-policies
COPY config/airflow-init.sh config/oidc.py config/roles.json /config/
COPY dags /dags
COPY plugins /plugins
COPY include /include
COPY sql /sql
COPY LICENSE /

FROM apache/airflow:slim-${AIRFLOW_VERSION}-python${PYTHON_VERSION}${AIRFLOW_DIGEST:+@${AIRFLOW_DIGEST}} AS platform-packages
USER root
# A new volume that is mounted on one of these folders gets that folder's owner, so no service has to run as root.
RUN install --directory --owner=airflow --group=0 --mode=0775 /training \
    && install --directory --owner=airflow --group=0 --mode=0755 /model-keys \
    && install --directory --owner=airflow --group=0 --mode=0700 /model-signing \
    && install --directory --owner=airflow --group=0 --mode=0700 /s3-security /s3-data
USER airflow
# Airflow adds only dags/, plugins/ and config/ to Python's path.
ENV PYTHONPATH=/opt/airflow
COPY requirements-airflow.txt /opt/airflow/requirements/
# --no-deps: the lock is complete, and without this option pip 23.2 rejects it because of an extra that one package
# requires of another.
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --requirement /opt/airflow/requirements/requirements-airflow.txt

FROM platform-packages AS trainer-packages
COPY requirements-trainer.txt /opt/airflow/requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --requirement /opt/airflow/requirements/requirements-trainer.txt
# Ultralytics keeps its settings in YOLO_CONFIG_DIR; YOLO_OFFLINE stops it from making network requests.
ENV YOLO_CONFIG_DIR=/home/airflow/.ultralytics YOLO_OFFLINE=True

FROM platform-packages AS platform
COPY --from=project --chown=airflow:0 / /opt/airflow/
# Without bytecode every task would spend seconds compiling its imports.
RUN python -m compileall -q /opt/airflow/dags /opt/airflow/plugins /opt/airflow/include

FROM trainer-packages AS trainer
COPY --from=project --chown=airflow:0 / /opt/airflow/
RUN python -m compileall -q /opt/airflow/dags /opt/airflow/plugins /opt/airflow/include
