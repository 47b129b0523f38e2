// 3D views of clouds: drag turns, wheel or pinch zooms (the wheel only in a view that was clicked, so that the page still scrolls).
// One hidden WebGL context draws all views, each of which copies the picture into its own 2D canvas: browsers allow few contexts.
// Without WebGL the same camera projects the points onto the 2D canvas directly.
"use strict";
(() => {
  const host = document.getElementById("views");
  const source = document.getElementById("cloud-points");
  if (!host || !source) return;
  const BACKGROUND = "#10161f";
  const RAMP = ["#4b5fd6", "#2f9fd0", "#37c6a0", "#b6d94c", "#fbe04b"].map((hex) => new THREE.Color(hex));
  const hasWebGL = !!document.createElement("canvas").getContext("webgl2");
  const renderer = hasWebGL ? new THREE.WebGLRenderer({ antialias: true }) : null;
  renderer?.setClearColor(BACKGROUND);

  const disc = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.arc(16, 16, 15, 0, 7);
    pen.fill();
    return new THREE.CanvasTexture(canvas);
  };
  const material = new THREE.PointsMaterial({ size: 0.052, vertexColors: true, map: renderer && disc(), alphaTest: 0.5 });

  const cloud = (thousandths) => {
    const places = Float32Array.from(thousandths, (value) => value / 1000);
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(places, 3));
    geometry.computeBoundingSphere();
    const { center, radius } = geometry.boundingSphere;
    geometry.translate(-center.x, -center.y, -center.z).scale(1 / (radius || 1), 1 / (radius || 1), 1 / (radius || 1));
    geometry.computeBoundingBox();
    const { min, max } = geometry.boundingBox;
    const colours = new Float32Array(places.length);
    for (let at = 0; at < places.length; at += 3) {
      const height = ((places[at + 2] - min.z) / (max.z - min.z || 1)) * (RAMP.length - 1);
      const stop = Math.min(Math.floor(height), RAMP.length - 2);
      RAMP[stop].clone().lerp(RAMP[stop + 1], height - stop).toArray(colours, at);
    }
    geometry.setAttribute("color", new THREE.BufferAttribute(colours, 3));
    return geometry;
  };

  const flat = (pen, geometry, camera, width, height) => {
    pen.fillStyle = BACKGROUND;
    pen.fillRect(0, 0, width, height);
    camera.updateMatrixWorld();
    const { position, color } = geometry.attributes;
    const dots = Array.from({ length: position.count }, (_, at) => {
      const spot = new THREE.Vector3().fromBufferAttribute(position, at).project(camera);
      return { spot, colour: `#${new THREE.Color().fromBufferAttribute(color, at).getHexString()}` };
    });
    const size = Math.max(2, width / 110);
    for (const { spot, colour } of dots.sort((one, other) => other.spot.z - one.spot.z)) {
      pen.fillStyle = colour;
      pen.fillRect(((spot.x + 1) / 2) * width - size / 2, ((1 - spot.y) / 2) * height - size / 2, size, size);
    }
  };

  const open = (canvas, points) => {
    const pen = canvas.getContext("2d");
    const geometry = cloud(points);
    const scene = new THREE.Scene();
    scene.fog = new THREE.Fog(BACKGROUND, 2.8, 6.8);
    scene.add(new THREE.Points(geometry, material));
    const camera = new THREE.PerspectiveCamera(36, 1, 0.1, 50);
    camera.up.set(0, 0, 1);
    camera.position.set(2.2, -2.4, 1.3);
    const controls = new THREE.OrbitControls(camera, canvas);
    Object.assign(controls, { enablePan: false, enableZoom: false, minDistance: 1.2, maxDistance: 8 });
    canvas.style.touchAction = "pan-y"; // a finger that moves up or down scrolls the page
    const paint = () => {
      const dots = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.round(canvas.clientWidth * dots), height = Math.round(canvas.clientHeight * dots);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      camera.aspect = width / height;
      camera.updateProjectionMatrix();
      if (!renderer) return flat(pen, geometry, camera, width, height);
      renderer.setSize(width, height, false);
      renderer.render(scene, camera);
      pen.drawImage(renderer.domElement, 0, 0);
    };
    const turn = (around, up) => {
      const distance = camera.position.length();
      const polar = Math.min(3.04, Math.max(0.1, Math.acos(camera.position.z / distance) - up));
      const azimuth = Math.atan2(camera.position.y, camera.position.x) + around;
      camera.position.set(Math.sin(polar) * Math.cos(azimuth), Math.sin(polar) * Math.sin(azimuth), Math.cos(polar)).setLength(distance);
      controls.update();
    };
    const keys = {
      ArrowLeft: () => turn(-0.15, 0), ArrowRight: () => turn(0.15, 0), ArrowUp: () => turn(0, 0.15), ArrowDown: () => turn(0, -0.15),
      "+": () => (camera.position.multiplyScalar(0.9), controls.update()), "-": () => (camera.position.multiplyScalar(1.1), controls.update()),
    };
    canvas.addEventListener("keydown", (event) => keys[event.key] && (event.preventDefault(), keys[event.key]()));
    canvas.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }));
    canvas.addEventListener("focus", () => (controls.enableZoom = true));
    canvas.addEventListener("blur", () => (controls.enableZoom = false));
    controls.addEventListener("change", paint);
    new ResizeObserver(paint).observe(canvas);
    controls.update();
    paint();
  };

  const points = JSON.parse(source.textContent);
  host.querySelectorAll("canvas").forEach((canvas, number) => open(canvas, points[number]));
  host.dataset.drawn = renderer ? "webgl" : "2d";
})();
