export { BufferAttribute, BufferGeometry, CanvasTexture, Color, Fog, PerspectiveCamera, Points, PointsMaterial, Scene, Vector3, WebGLRenderer } from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
