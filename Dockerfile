# Two images from one file:
#   operator   kopf, the Kubernetes client and the source; no torch
#   trainer    torch, transformers and the source
# Dependencies and source never share a layer, so a change of source rebuilds, ships and unpacks kilobytes.
ARG PYTHON=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON} AS python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/venv/bin:$PATH
RUN python3 -m venv --without-pip /opt/venv

# What only the build needs. It works out the exact packages of each image, so that an edit of pyproject.toml or
# constraints.txt that concerns neither (a lint rule, the version of a test tool) leaves the layers that took minutes.
FROM ${PYTHON} AS tools
COPY constraints.txt pyproject.toml /build/
RUN python3 -m pip install --quiet --no-cache-dir --root-user-action=ignore --target /opt/tools -c /build/constraints.txt uv
RUN cd /build && for extra in operator trainer; do \
        /opt/tools/bin/uv --system-certs pip compile --quiet --no-cache --no-header --no-annotate \
            -c constraints.txt --extra $extra -o $extra.txt pyproject.toml || exit 1; \
    done
# The packages are copied, not installed; this is what `importlib.metadata` reads their version from.
RUN cd /build && python3 -c 'import pathlib, tomllib; \
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]; \
    info = pathlib.Path("info", project["name"].replace("-", "_") + ".dist-info"); \
    info.mkdir(parents=True); \
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".format(**project))'

FROM python AS operator-dependencies
COPY --from=tools /build/operator.txt /opt/requirements.txt
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    /opt/tools/bin/uv --system-certs pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python \
    -r /opt/requirements.txt

FROM operator-dependencies AS operator
COPY --from=tools /build/info /opt/app
COPY trainer_image/finetune_trainer/__init__.py /opt/app/finetune_trainer/
COPY trainer_image/finetune_trainer/contract /opt/app/finetune_trainer/contract
COPY operator/finetune_operator /opt/app/finetune_operator
RUN python -m compileall -q --invalidation-mode checked-hash /opt/app
# USER: the number has no name in /etc/passwd, and libraries ask for one.
ENV PYTHONPATH=/opt/app HOME=/tmp USER=finetune
USER 10001:10001
ENTRYPOINT ["python", "-m", "finetune_operator"]

FROM python AS trainer-dependencies
COPY --from=tools /build/trainer.txt /opt/requirements.txt
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    /opt/tools/bin/uv --system-certs pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python \
    -r /opt/requirements.txt

FROM trainer-dependencies AS trainer
COPY --from=tools /build/info /opt/app
COPY trainer_image/finetune_trainer /opt/app/finetune_trainer
RUN python -m compileall -q --invalidation-mode checked-hash /opt/app
ENV PYTHONPATH=/opt/app HOME=/tmp USER=finetune
USER 10001:10001
ENTRYPOINT ["python", "-m", "finetune_trainer"]
