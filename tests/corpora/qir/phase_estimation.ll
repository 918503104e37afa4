%Result = type opaque
%Qubit = type opaque

@0 = internal constant [4 x i8] c"0_i\00"

define i64 @ENTRYPOINT__main() #0 {
block_0:
  call void @__quantum__rt__initialize(i8* null)
  call void @__quantum__qis__x__body(%Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__rz__body(double 3.7699111843077517, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double -3.7699111843077517, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double 3.7699111843077517, %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__rz__body(double -0.0, %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__mresetz__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Result* inttoptr (i64 0 to %Result*))
  %var_6 = call zeroext i1 @__quantum__rt__read_result(%Result* inttoptr (i64 0 to %Result*))
  br i1 %var_6, label %block_1, label %block_2
block_1:
  br label %block_2
block_2:
  %var_32 = phi double [0.0, %block_0], [0.5, %block_1]
  %var_31 = phi i64 [0, %block_0], [1, %block_1]
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__rz__body(double 1.8849555921538759, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double -1.8849555921538759, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double 1.8849555921538759, %Qubit* inttoptr (i64 1 to %Qubit*))
  %var_10 = fmul double -3.141592653589793, %var_32
  call void @__quantum__qis__rz__body(double %var_10, %Qubit* inttoptr (i64 1 to %Qubit*))
  %var_11 = fmul double -1.0, %var_10
  %var_12 = fmul double -1.0, %var_11
  %var_13 = fdiv double %var_12, 2.0
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  %var_14 = fdiv double %var_32, 2.0
  call void @__quantum__qis__mresetz__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Result* inttoptr (i64 1 to %Result*))
  %var_15 = call zeroext i1 @__quantum__rt__read_result(%Result* inttoptr (i64 1 to %Result*))
  br i1 %var_15, label %block_3, label %block_4
block_3:
  %var_17 = add i64 %var_31, 2
  %var_18 = fadd double %var_14, 0.5
  br label %block_4
block_4:
  %var_34 = phi double [%var_14, %block_2], [%var_18, %block_3]
  %var_33 = phi i64 [%var_31, %block_2], [%var_17, %block_3]
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__rz__body(double 0.9424777960769379, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double -0.9424777960769379, %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double 0.9424777960769379, %Qubit* inttoptr (i64 1 to %Qubit*))
  %var_21 = fmul double -3.141592653589793, %var_34
  call void @__quantum__qis__rz__body(double %var_21, %Qubit* inttoptr (i64 1 to %Qubit*))
  %var_22 = fmul double -1.0, %var_21
  %var_23 = fmul double -1.0, %var_22
  %var_24 = fdiv double %var_23, 2.0
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 1 to %Qubit*))
  %var_25 = fdiv double %var_34, 2.0
  call void @__quantum__qis__mresetz__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Result* inttoptr (i64 2 to %Result*))
  %var_26 = call zeroext i1 @__quantum__rt__read_result(%Result* inttoptr (i64 2 to %Result*))
  br i1 %var_26, label %block_5, label %block_6
block_5:
  %var_28 = add i64 %var_33, 4
  %var_29 = fadd double %var_25, 0.5
  br label %block_6
block_6:
  %var_36 = phi double [%var_25, %block_4], [%var_29, %block_5]
  %var_35 = phi i64 [%var_33, %block_4], [%var_28, %block_5]
  call void @__quantum__qis__reset__body(%Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__rt__int_record_output(i64 %var_35, i8* getelementptr inbounds ([4 x i8], [4 x i8]* @0, i64 0, i64 0))
  ret i64 0
}

declare void @__quantum__rt__initialize(i8*)

declare void @__quantum__qis__x__body(%Qubit*)

declare void @__quantum__qis__h__body(%Qubit*)

declare void @__quantum__qis__rz__body(double, %Qubit*)

declare void @__quantum__qis__cx__body(%Qubit*, %Qubit*)

declare void @__quantum__qis__mresetz__body(%Qubit*, %Result*) #1

declare zeroext i1 @__quantum__rt__read_result(%Result*)

declare void @__quantum__qis__reset__body(%Qubit*) #1

declare void @__quantum__rt__int_record_output(i64, i8*)

attributes #0 = { "entry_point" "output_labeling_schema" "qir_profiles"="adaptive_profile" "required_num_qubits"="2" "required_num_results"="3" }
attributes #1 = { "irreversible" }

; module flags

!llvm.module.flags = !{!0, !1, !2, !3, !4, !5}

!0 = !{i32 1, !"qir_major_version", i32 1}
!1 = !{i32 7, !"qir_minor_version", i32 0}
!2 = !{i32 1, !"dynamic_qubit_management", i1 false}
!3 = !{i32 1, !"dynamic_result_management", i1 false}
!4 = !{i32 5, !"int_computations", !{!"i64"}}
!5 = !{i32 5, !"float_computations", !{!"double"}}
