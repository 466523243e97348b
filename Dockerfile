# docker build -t vizsla .
# docker run vizsla                          the demo; nothing is downloaded: --network none works, too
# docker run -p 8888:8888 vizsla notebook    Jupyter with the notebook; open the link with the token that it prints
# docker run vizsla compare --help           any other command of vizsla
#
# The labelling page on a folder of yours; a container is not loopback, so you need a token, made once:
# docker run -v "$PWD/photos:/photos" -p 8050:8050 --name label vizsla serve /photos --host 0.0.0.0 --port 8050
# docker exec label vizsla users add me --project /photos/.vizsla     then open localhost:8050/?token=TOKEN
#
# For a team, with PostgreSQL: deploy/compose.yaml and deploy/kubernetes. Smaller, without Jupyter:
# docker build --build-arg EXTRAS=postgres -t vizsla .
#
# To keep what is written, and to read your own images, mount a folder as yourself:
# docker run --user "$(id -u)" -v "$PWD:/home/vizsla/here" vizsla demo --out here/vizsla-demo
FROM python:3.11-slim

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
ARG EXTRAS=notebook,postgres
RUN pip install --no-cache-dir ".[${EXTRAS}]"

COPY docker/entrypoint.sh /usr/local/bin/entrypoint
RUN chmod 755 /usr/local/bin/entrypoint && useradd --create-home --uid 1000 vizsla \
    && mkdir /cache && chown vizsla /cache && chmod a+rwX /cache

ENV HOME=/home/vizsla
WORKDIR /home/vizsla
COPY notebooks notebooks
# The samples and matplotlib's list of fonts are made now; any user that --user names may write here.
RUN python -c 'import matplotlib.pyplot; from vizsla.data.samples import digits_folder; digits_folder()' \
    && chown -R vizsla . && chmod -R a+rwX .
USER vizsla

EXPOSE 8050 8888
ENTRYPOINT ["entrypoint"]
CMD ["demo"]
