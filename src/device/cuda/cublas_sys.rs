//! The functions of cuBLAS and cuBLASLt that are called, with numbers for results, as in `sys.rs`.

#![allow(unsafe_code)]

/// cuBLAS.
pub mod blas {
    use std::ffi::{c_int, c_void};

    pub use cudarc::cublas::sys::{
        cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t, cudaDataType, cudaStream_t, culib,
        is_culib_present,
    };

    use crate::device::cuda::sys::functions;

    functions! {
        culib;
        fn cublasCreate_v2(handle: *mut cublasHandle_t);
        fn cublasDestroy_v2(handle: cublasHandle_t);
        fn cublasSetStream_v2(handle: cublasHandle_t, stream: cudaStream_t);
        fn cublasSetWorkspace_v2(handle: cublasHandle_t, start: *mut c_void, bytes: usize);
        fn cublasGemmEx(
            handle: cublasHandle_t,
            transpose_a: cublasOperation_t,
            transpose_b: cublasOperation_t,
            m: c_int,
            n: c_int,
            k: c_int,
            alpha: *const c_void,
            a: *const c_void,
            a_type: cudaDataType,
            a_stride: c_int,
            b: *const c_void,
            b_type: cudaDataType,
            b_stride: c_int,
            beta: *const c_void,
            c: *mut c_void,
            c_type: cudaDataType,
            c_stride: c_int,
            compute: cublasComputeType_t,
            algorithm: cublasGemmAlgo_t,
        );
    }
}

/// cuBLASLt.
pub mod lt {
    use std::ffi::{c_int, c_void};

    pub use cudarc::cublaslt::sys::{
        cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
        cublasLtMatmulDescAttributes_t, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
        cublasLtMatrixLayout_t, cudaDataType, cudaStream_t, culib, is_culib_present,
    };

    use crate::device::cuda::sys::functions;

    /// cublasLtMatmulHeuristicResult_t, its status as a number.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Heuristic {
        pub algorithm: cublasLtMatmulAlgo_t,
        workspace: usize,
        status: u32,
        waves: f32,
        reserved: [c_int; 4],
    }

    functions! {
        culib;
        fn cublasLtCreate(handle: *mut cublasLtHandle_t);
        fn cublasLtDestroy(handle: cublasLtHandle_t);
        fn cublasLtMatmulDescCreate(
            description: *mut cublasLtMatmulDesc_t,
            compute: cublasComputeType_t,
            scale: cudaDataType,
        );
        fn cublasLtMatmulDescDestroy(description: cublasLtMatmulDesc_t);
        fn cublasLtMatmulDescSetAttribute(
            description: cublasLtMatmulDesc_t,
            attribute: cublasLtMatmulDescAttributes_t,
            value: *const c_void,
            bytes: usize,
        );
        fn cublasLtMatrixLayoutCreate(
            layout: *mut cublasLtMatrixLayout_t,
            element: cudaDataType,
            rows: u64,
            columns: u64,
            stride: i64,
        );
        fn cublasLtMatrixLayoutDestroy(layout: cublasLtMatrixLayout_t);
        fn cublasLtMatmulPreferenceCreate(preference: *mut cublasLtMatmulPreference_t);
        fn cublasLtMatmulPreferenceDestroy(preference: cublasLtMatmulPreference_t);
        fn cublasLtMatmulPreferenceSetAttribute(
            preference: cublasLtMatmulPreference_t,
            attribute: cublasLtMatmulPreferenceAttributes_t,
            value: *const c_void,
            bytes: usize,
        );
        fn cublasLtMatmulAlgoGetHeuristic(
            handle: cublasLtHandle_t,
            operation: cublasLtMatmulDesc_t,
            a: cublasLtMatrixLayout_t,
            b: cublasLtMatrixLayout_t,
            c: cublasLtMatrixLayout_t,
            d: cublasLtMatrixLayout_t,
            preference: cublasLtMatmulPreference_t,
            most: c_int,
            found: *mut Heuristic,
            count: *mut c_int,
        );
        fn cublasLtMatmul(
            handle: cublasLtHandle_t,
            operation: cublasLtMatmulDesc_t,
            alpha: *const c_void,
            a: *const c_void,
            a_layout: cublasLtMatrixLayout_t,
            b: *const c_void,
            b_layout: cublasLtMatrixLayout_t,
            beta: *const c_void,
            c: *const c_void,
            c_layout: cublasLtMatrixLayout_t,
            d: *mut c_void,
            d_layout: cublasLtMatrixLayout_t,
            algorithm: *const cublasLtMatmulAlgo_t,
            workspace: *mut c_void,
            workspace_bytes: usize,
            stream: cudaStream_t,
        );
    }
}
