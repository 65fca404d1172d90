# The server with its embedded model and adapters.
#   docker build -t dutyfree . && docker run --rm -p 8000:8000 dutyfree [--flags]
# scripts/image-ci.mjs builds and asks it without a daemon; scripts/image-steps.mjs runs these very
# lines in a clean folder where not even that can be.

FROM node:24-slim AS build
WORKDIR /app
# The CPU library is in the package; its postinstall would only fetch the CUDA one.
ENV ONNXRUNTIME_NODE_INSTALL=skip
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json ./
COPY server server
RUN node_modules/.bin/tsc -p tsconfig.json
# Our own operators, for processors that have code here; others run on ONNX Runtime's.
RUN command -v gcc || (apt-get update -q && apt-get install -q -y --no-install-recommends gcc libc6-dev)
RUN node server/native/build.mjs dist/server/native/kernels.so
RUN npm prune --omit=dev --no-audit --no-fund
# ONNX Runtime's package carries five platforms; the image needs its own.
RUN find node_modules/onnxruntime-node/bin/napi-v6 -mindepth 2 -maxdepth 2 ! -path "*/$(node -p 'process.platform + "/" + process.arch')" -exec rm -r {} +
RUN find node_modules/onnxruntime-node/bin/napi-v6 -mindepth 1 -maxdepth 1 -empty -delete
RUN mkdir cache

FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production
ENV DUTYFREE_HOST=0.0.0.0
ENV DUTYFREE_PORT=8000
ENV DUTYFREE_CACHE_DIR=/var/cache/dutyfree
ENV HF_HOME=/var/cache/dutyfree/huggingface
COPY --from=build --chown=node:node /app/cache /var/cache/dutyfree
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist/server dist/server
COPY package.json LICENSE ./
COPY models models
COPY adapters adapters
VOLUME /var/cache/dutyfree
USER node
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.DUTYFREE_PORT}/health/ready`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/server/main.js"]
