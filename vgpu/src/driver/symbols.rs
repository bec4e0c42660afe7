//! All other functions of the driver, and finding functions by name.
//!
//! Programs (cudarc among them) look functions up by name and may insist on every one that CUDA defines. Those that are
//! not emulated say so once on stderr and answer 801, CUDA_ERROR_NOT_SUPPORTED.

use std::sync::Once;

use super::boundary::{Out, Text};
use super::error::{Code, Outcome, fail};
use super::{
    capture, cluster, context, copy, device, enter_before_init, event, function, graph, graph_nodes, launch, memory,
    module, occupancy, pool, report, stream, tensor_map,
};

macro_rules! not_played {
    ($($name:ident)*) => {
        $(
            #[doc = concat!(stringify!($name), ": not emulated, answers 801.")]
            #[unsafe(no_mangle)]
            #[allow(non_snake_case)]
            pub extern "C" fn $name() -> u32 {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    eprintln!("vgpu: {} is not emulated by the virtual GPU (CUDA_ERROR_NOT_SUPPORTED 801)", stringify!($name));
                });
                Code::NOT_SUPPORTED.0
            }
        )*

        fn not_played() -> Vec<(&'static str, *const ())> {
            vec![$((stringify!($name), $name as *const ())),*]
        }
    };
}

// The functions of CUDA 11.4 to 13.x that no other file defines.
not_played! {
    cuArray3DCreate_v2
    cuArray3DGetDescriptor_v2
    cuArrayCreate_v2
    cuArrayDestroy
    cuArrayGetDescriptor_v2
    cuArrayGetMemoryRequirements
    cuArrayGetPlane
    cuArrayGetSparseProperties
    cuCoredumpDeregisterCompleteCallback
    cuCoredumpDeregisterStartCallback
    cuCoredumpGetAttribute
    cuCoredumpGetAttributeGlobal
    cuCoredumpRegisterCompleteCallback
    cuCoredumpRegisterStartCallback
    cuCoredumpSetAttribute
    cuCoredumpSetAttributeGlobal
    cuCtxAttach
    cuCtxDetach
    cuCtxDisablePeerAccess
    cuCtxEnablePeerAccess
    cuCtxFromGreenCtx
    cuCtxGetDevResource
    cuCtxGetDevice_v2
    cuCtxGetExecAffinity
    cuCtxGetId
    cuCtxGetSharedMemConfig
    cuCtxRecordEvent
    cuCtxResetPersistingL2Cache
    cuCtxSetSharedMemConfig
    cuCtxWaitEvent
    cuDestroyExternalMemory
    cuDestroyExternalSemaphore
    cuDevResourceGenerateDesc
    cuDevSmResourceSplit
    cuDevSmResourceSplitByCount
    cuDeviceGetByPCIBusId
    cuDeviceGetCliqueCount
    cuDeviceGetCliqueInfo
    cuDeviceGetDevResource
    cuDeviceGetExecAffinitySupport
    cuDeviceGetFabricClusterUuid
    cuDeviceGetGraphMemAttribute
    cuDeviceGetHostAtomicCapabilities
    cuDeviceGetLuid
    cuDeviceGetP2PAtomicCapabilities
    cuDeviceGetP2PAttribute
    cuDeviceGetProperties
    cuDeviceGetTexture1DLinearMaxWidth
    cuDeviceGraphMemTrim
    cuDeviceRegisterAsyncNotification
    cuDeviceSetGraphMemAttribute
    cuDeviceUnregisterAsyncNotification
    cuExternalMemoryGetMappedBuffer
    cuExternalMemoryGetMappedMipmappedArray
    cuFlushGPUDirectRDMAWrites
    cuFuncGetParamCount
    cuFuncIsLoaded
    cuFuncLoad
    cuFuncSetBlockShape
    cuFuncSetSharedSize
    cuGetExportTable
    cuGraphAddBatchMemOpNode
    cuGraphAddChildGraphNode
    cuGraphAddDependencies
    cuGraphAddDependencies_v2
    cuGraphAddEmptyNode
    cuGraphAddEventRecordNode
    cuGraphAddEventWaitNode
    cuGraphAddExternalSemaphoresSignalNode
    cuGraphAddExternalSemaphoresWaitNode
    cuGraphAddHostNode
    cuGraphAddKernelNode
    cuGraphAddKernelNode_v2
    cuGraphAddMemAllocNode
    cuGraphAddMemFreeNode
    cuGraphAddMemcpyNode
    cuGraphAddMemsetNode
    cuGraphAddNode
    cuGraphAddNode_v2
    cuGraphAddNode_v3
    cuGraphBatchMemOpNodeGetParams
    cuGraphBatchMemOpNodeSetParams
    cuGraphChildGraphNodeGetGraph
    cuGraphClone
    cuGraphConditionalHandleCreate
    cuGraphCreate
    cuGraphDebugDotPrint
    cuGraphDestroyNode
    cuGraphEventRecordNodeGetEvent
    cuGraphEventRecordNodeSetEvent
    cuGraphEventWaitNodeGetEvent
    cuGraphEventWaitNodeSetEvent
    cuGraphExecBatchMemOpNodeSetParams
    cuGraphExecChildGraphNodeSetParams
    cuGraphExecEventRecordNodeSetEvent
    cuGraphExecEventWaitNodeSetEvent
    cuGraphExecExternalSemaphoresSignalNodeSetParams
    cuGraphExecExternalSemaphoresWaitNodeSetParams
    cuGraphExecGetId
    cuGraphExecHostNodeSetParams
    cuGraphExecMemcpyNodeSetParams
    cuGraphExecMemsetNodeSetParams
    cuGraphExecNodeSetParams
    cuGraphExternalSemaphoresSignalNodeGetParams
    cuGraphExternalSemaphoresSignalNodeSetParams
    cuGraphExternalSemaphoresWaitNodeGetParams
    cuGraphExternalSemaphoresWaitNodeSetParams
    cuGraphGetId
    cuGraphHostNodeGetParams
    cuGraphHostNodeSetParams
    cuGraphInstantiateWithParams
    cuGraphKernelNodeCopyAttributes
    cuGraphMemAllocNodeGetParams
    cuGraphMemFreeNodeGetParams
    cuGraphMemcpyNodeGetParams
    cuGraphMemcpyNodeSetParams
    cuGraphMemsetNodeGetParams
    cuGraphMemsetNodeSetParams
    cuGraphNodeFindInClone
    cuGraphNodeGetContainingGraph
    cuGraphNodeGetEnabled
    cuGraphNodeGetLocalId
    cuGraphNodeGetParams
    cuGraphNodeGetToolsId
    cuGraphNodeSetEnabled
    cuGraphNodeSetParams
    cuGraphNodeSetParams_v2
    cuGraphReleaseUserObject
    cuGraphRemoveDependencies
    cuGraphRemoveDependencies_v2
    cuGraphRetainUserObject
    cuGraphicsMapResources
    cuGraphicsResourceGetMappedMipmappedArray
    cuGraphicsResourceGetMappedPointer_v2
    cuGraphicsResourceSetMapFlags_v2
    cuGraphicsSubResourceGetMappedArray
    cuGraphicsUnmapResources
    cuGraphicsUnregisterResource
    cuGreenCtxCreate
    cuGreenCtxDestroy
    cuGreenCtxGetDevResource
    cuGreenCtxGetId
    cuGreenCtxRecordEvent
    cuGreenCtxStreamCreate
    cuGreenCtxWaitEvent
    cuImportExternalMemory
    cuImportExternalSemaphore
    cuIpcCloseMemHandle
    cuIpcGetEventHandle
    cuIpcGetMemHandle
    cuIpcOpenEventHandle
    cuIpcOpenMemHandle_v2
    cuKernelGetAttribute
    cuKernelGetFunction
    cuKernelGetLibrary
    cuKernelGetName
    cuKernelGetParamCount
    cuKernelGetParamInfo
    cuKernelSetAttribute
    cuKernelSetCacheConfig
    cuLaunch
    cuLaunchCooperativeKernelMultiDevice
    cuLaunchGrid
    cuLaunchGridAsync
    cuLaunchHostFunc_v2
    cuLibraryEnumerateKernels
    cuLibraryGetGlobal
    cuLibraryGetKernel
    cuLibraryGetKernelCount
    cuLibraryGetManaged
    cuLibraryGetModule
    cuLibraryGetUnifiedFunction
    cuLibraryLoadData
    cuLibraryLoadFromFile
    cuLibraryUnload
    cuLinkAddData_v2
    cuLinkAddFile_v2
    cuLinkComplete
    cuLinkCreate_v2
    cuLinkDestroy
    cuLogicalEndpointAddDevice
    cuLogicalEndpointBindAddr
    cuLogicalEndpointBindMem
    cuLogicalEndpointCreate
    cuLogicalEndpointDestroy
    cuLogicalEndpointExport
    cuLogicalEndpointGetLimits
    cuLogicalEndpointIdRelease
    cuLogicalEndpointIdReserve
    cuLogicalEndpointImport
    cuLogicalEndpointQuery
    cuLogicalEndpointUnbind
    cuLogsCurrent
    cuLogsDumpToFile
    cuLogsDumpToMemory
    cuLogsRegisterCallback
    cuLogsUnregisterCallback
    cuMemAddressFree
    cuMemAddressReserve
    cuMemAdvise
    cuMemAdvise_v2
    cuMemAllocManaged
    cuMemBatchDecompressAsync
    cuMemCreate
    cuMemDiscardAndPrefetchBatchAsync
    cuMemDiscardBatchAsync
    cuMemExportToShareableHandle
    cuMemGetAccess
    cuMemGetAllocationGranularity
    cuMemGetAllocationPropertiesFromHandle
    cuMemGetDefaultMemPool
    cuMemGetHandleForAddressRange
    cuMemGetLocationInfo
    cuMemGetMemPool
    cuMemImportFromShareableHandle
    cuMemMap
    cuMemMapArrayAsync
    cuMemPoolExportPointer
    cuMemPoolExportToShareableHandle
    cuMemPoolGetAccess
    cuMemPoolImportFromShareableHandle
    cuMemPoolImportPointer
    cuMemPoolSetAccess
    cuMemPrefetchAsync
    cuMemPrefetchAsync_v2
    cuMemPrefetchBatchAsync
    cuMemRangeGetAttribute
    cuMemRangeGetAttributes
    cuMemRelease
    cuMemRetainAllocationHandle
    cuMemSetAccess
    cuMemSetMemPool
    cuMemUnmap
    cuMemcpy3DAsync_v2
    cuMemcpy3DBatchAsync
    cuMemcpy3DBatchAsync_v2
    cuMemcpy3DPeer
    cuMemcpy3DPeerAsync
    cuMemcpy3DWithAttributesAsync
    cuMemcpy3D_v2
    cuMemcpyAtoA_v2
    cuMemcpyAtoD_v2
    cuMemcpyAtoHAsync_v2
    cuMemcpyAtoH_v2
    cuMemcpyBatchAsync
    cuMemcpyBatchAsync_v2
    cuMemcpyDtoA_v2
    cuMemcpyHtoAAsync_v2
    cuMemcpyHtoA_v2
    cuMemcpyPeer
    cuMemcpyWithAttributesAsync
    cuMemsetD2D16Async
    cuMemsetD2D16_v2
    cuMemsetD2D32Async
    cuMemsetD2D32_v2
    cuMemsetD2D8Async
    cuMemsetD2D8_v2
    cuMipmappedArrayCreate
    cuMipmappedArrayDestroy
    cuMipmappedArrayGetLevel
    cuMipmappedArrayGetMemoryRequirements
    cuMipmappedArrayGetSparseProperties
    cuModuleEnumerateFunctions
    cuModuleGetSurfRef
    cuModuleGetTexRef
    cuMulticastAddDevice
    cuMulticastBindAddr
    cuMulticastBindAddr_v2
    cuMulticastBindMem
    cuMulticastBindMem_v2
    cuMulticastCreate
    cuMulticastGetGranularity
    cuMulticastUnbind
    cuParamSetSize
    cuParamSetTexRef
    cuParamSetf
    cuParamSeti
    cuParamSetv
    cuPointerSetAttribute
    cuProfilerInitialize
    cuSignalExternalSemaphoresAsync
    cuStreamBatchMemOp
    cuStreamBatchMemOp_v2
    cuStreamBeginCaptureToCig
    cuStreamBeginCaptureToGraph
    cuStreamBeginRecaptureToGraph
    cuStreamCopyAttributes
    cuStreamEndCaptureToCig
    cuStreamGetAttribute
    cuStreamGetCtx_v2
    cuStreamGetDevResource
    cuStreamGetDevice
    cuStreamGetGreenCtx
    cuStreamUpdateCaptureDependencies
    cuStreamUpdateCaptureDependencies_v2
    cuStreamWaitValue32
    cuStreamWaitValue32_v2
    cuStreamWaitValue64
    cuStreamWaitValue64_v2
    cuStreamWriteValue32
    cuStreamWriteValue32_v2
    cuStreamWriteValue64
    cuStreamWriteValue64_v2
    cuSurfObjectCreate
    cuSurfObjectDestroy
    cuSurfObjectGetResourceDesc
    cuSurfRefGetArray
    cuSurfRefSetArray
    cuTensorMapEncodeIm2col
    cuTensorMapEncodeIm2colWide
    cuTexObjectCreate
    cuTexObjectDestroy
    cuTexObjectGetResourceDesc
    cuTexObjectGetResourceViewDesc
    cuTexObjectGetTextureDesc
    cuTexRefCreate
    cuTexRefDestroy
    cuTexRefGetAddressMode
    cuTexRefGetAddress_v2
    cuTexRefGetArray
    cuTexRefGetBorderColor
    cuTexRefGetFilterMode
    cuTexRefGetFlags
    cuTexRefGetFormat
    cuTexRefGetMaxAnisotropy
    cuTexRefGetMipmapFilterMode
    cuTexRefGetMipmapLevelBias
    cuTexRefGetMipmapLevelClamp
    cuTexRefGetMipmappedArray
    cuTexRefSetAddress2D_v3
    cuTexRefSetAddressMode
    cuTexRefSetAddress_v2
    cuTexRefSetArray
    cuTexRefSetBorderColor
    cuTexRefSetFilterMode
    cuTexRefSetFlags
    cuTexRefSetFormat
    cuTexRefSetMaxAnisotropy
    cuTexRefSetMipmapFilterMode
    cuTexRefSetMipmapLevelBias
    cuTexRefSetMipmapLevelClamp
    cuTexRefSetMipmappedArray
    cuUserObjectCreate
    cuUserObjectRelease
    cuUserObjectRetain
    cuWaitExternalSemaphoresAsync
}

/// A function by its name.
fn find(name: &str) -> Option<*const ()> {
    let own: [(&str, *const ()); 6] = [
        ("cuInit", device::cuInit as *const ()),
        ("cuDriverGetVersion", device::cuDriverGetVersion as *const ()),
        ("cuGetErrorName", report::cuGetErrorName as *const ()),
        ("cuGetErrorString", report::cuGetErrorString as *const ()),
        ("cuGetProcAddress", cuGetProcAddress as *const ()),
        ("cuGetProcAddress_v2", cuGetProcAddress_v2 as *const ()),
    ];
    let tables = [
        capture::table(),
        cluster::table(),
        context::table(),
        copy::table(),
        device::table(),
        event::table(),
        function::table(),
        graph::table(),
        graph_nodes::table(),
        launch::table(),
        memory::table(),
        module::table(),
        occupancy::table(),
        pool::table(),
        report::table(),
        stream::table(),
        tensor_map::table(),
        not_played(),
    ];
    own.into_iter().chain(tables.into_iter().flatten()).find_map(|(known, address)| (known == name).then_some(address))
}

/// Functions whose second version is another than the first, and the CUDA that brought it (`PFN_*_v12030` in cudaTypedefs.h):
/// a program that asks for an older one gets the first.
const LATE: [(&str, i32); 8] = [
    ("cuGraphExecKernelNodeSetParams", 12000),
    ("cuGraphExecUpdate", 12000),
    ("cuGraphGetEdges", 12030),
    ("cuGraphKernelNodeGetParams", 12000),
    ("cuGraphKernelNodeSetParams", 12000),
    ("cuGraphNodeGetDependencies", 12030),
    ("cuGraphNodeGetDependentNodes", 12030),
    ("cuStreamGetCaptureInfo", 11030),
];

/// Names come without the suffix of their version: `_v2` is the one that CUDA 3.2 to 11 made the usual. `version`: of the CUDA
/// that the program was written for.
fn look_up(name: &str, version: i32, answer: &Out<*const ()>) -> Outcome {
    let is_early = LATE.iter().any(|&(late, since)| late == name && version < since);
    let second = Some(format!("{name}_v2")).filter(|_| !is_early);
    match second.and_then(|second| find(&second)).or_else(|| find(name)) {
        Some(address) => answer.write(address),
        None => {
            answer.write_if_wanted(std::ptr::null());
            fail(Code::NOT_FOUND, format!("{name} is not a function of the driver"))
        }
    }
}

/// A function by name; allowed before cuInit.
///
/// # Safety
/// `name` is a string; `answer` is null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuGetProcAddress(name: Text, answer: Out<*const ()>, version: i32, _flags: u64) -> u32 {
    enter_before_init("cuGetProcAddress", |_| look_up(&name.get()?, version, &answer))
}

/// CUdriverProcAddressQueryResult
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// The same, with a status.
///
/// # Safety
/// `name` is a string; `answer` and `status` are null or valid for a write.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn cuGetProcAddress_v2(
    name: Text,
    answer: Out<*const ()>,
    version: i32,
    _flags: u64,
    status: Out<u32>,
) -> u32 {
    enter_before_init("cuGetProcAddress_v2", |_| {
        let result = look_up(&name.get()?, version, &answer);
        status.write_if_wanted(if result.is_ok() { FOUND } else { NOT_FOUND });
        result
    })
}
