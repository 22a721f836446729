;; The sum of a combine, four float32 at a time: the same operations in the same order as the loops in src/loops/sum.ts, and
;; so the same bits, NaN sign and payload aside. WebAssembly fuses no multiply-add and flushes no subnormals.
;;
;; Rows lie side by side, `stride` bytes apart, a multiple of 16. What lies between the end of a row and the next multiple of
;; 8 elements is summed along, and nobody looks at it. Functions are not used inside loops: the engine does not inline them.
(module
  (memory (export "memory") 4)

  ;; sums[i] = +0 + rows[0][i] + rows[1][i] + …; the bits of a bfloat16 are the upper half of a float32's
  (func (export "sum_bfloat16") (param $rows i32) (param $stride i32) (param $count i32) (param $n i32) (param $sums i32)
    (local $end i32) (local $row i32) (local $left i32) (local $low v128) (local $high v128) (local $x v128)
    (local.set $end (i32.add (local.get $rows) (i32.shl (local.get $n) (i32.const 1))))
    (if (i32.ge_u (local.get $rows) (local.get $end)) (then (return)))
    (loop $elements
      (local.set $low (v128.const i32x4 0 0 0 0))
      (local.set $high (v128.const i32x4 0 0 0 0))
      (local.set $row (local.get $rows))
      (local.set $left (local.get $count))
      (if (local.get $left) (then
        (loop $each
          (local.set $x (v128.load (local.get $row)))
          (local.set $low (f32x4.add (local.get $low)
            (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $x)) (i32.const 16))))
          (local.set $high (f32x4.add (local.get $high)
            (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $x)) (i32.const 16))))
          (local.set $row (i32.add (local.get $row) (local.get $stride)))
          (br_if $each (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
      (v128.store (local.get $sums) (local.get $low))
      (v128.store offset=16 (local.get $sums) (local.get $high))
      (local.set $sums (i32.add (local.get $sums) (i32.const 32)))
      (local.set $rows (i32.add (local.get $rows) (i32.const 16)))
      (br_if $elements (i32.lt_u (local.get $rows) (local.get $end)))))

  ;; the same for float16
  (func (export "sum_float16") (param $rows i32) (param $stride i32) (param $count i32) (param $n i32) (param $sums i32)
    (local $end i32) (local $row i32) (local $left i32) (local $low v128) (local $high v128) (local $x v128) (local $h v128) (local $bits v128)
    (local.set $end (i32.add (local.get $rows) (i32.shl (local.get $n) (i32.const 1))))
    (if (i32.ge_u (local.get $rows) (local.get $end)) (then (return)))
    (loop $elements
      (local.set $low (v128.const i32x4 0 0 0 0))
      (local.set $high (v128.const i32x4 0 0 0 0))
      (local.set $row (local.get $rows))
      (local.set $left (local.get $count))
      (if (local.get $left) (then
        (loop $each
          (local.set $x (v128.load (local.get $row)))
          (local.set $h (i32x4.extend_low_i16x8_u (local.get $x)))
          (local.set $bits (i32x4.shl
            (v128.and (local.get $h) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff)) (i32.const 13)))
          (local.set $low (f32x4.add (local.get $low) (v128.or
            ;; the sign
            (i32x4.shl
              (v128.and (local.get $h) (v128.const i32x4 0x8000 0x8000 0x8000 0x8000)) (i32.const 16))
            (v128.bitselect
              ;; infinity and NaN have the largest exponent there and here
              (v128.or (local.get $bits) (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))
              ;; 2^112 moves the exponent from one bias to the other, subnormals too
              (f32x4.mul (local.get $bits)
                (v128.const i32x4 0x77800000 0x77800000 0x77800000 0x77800000))
              (i32x4.eq
                (v128.and (local.get $h) (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00))
                (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00))))))
          (local.set $h (i32x4.extend_high_i16x8_u (local.get $x)))
          (local.set $bits (i32x4.shl
            (v128.and (local.get $h) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff)) (i32.const 13)))
          (local.set $high (f32x4.add (local.get $high) (v128.or
            ;; the sign
            (i32x4.shl
              (v128.and (local.get $h) (v128.const i32x4 0x8000 0x8000 0x8000 0x8000)) (i32.const 16))
            (v128.bitselect
              ;; infinity and NaN have the largest exponent there and here
              (v128.or (local.get $bits) (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))
              ;; 2^112 moves the exponent from one bias to the other, subnormals too
              (f32x4.mul (local.get $bits)
                (v128.const i32x4 0x77800000 0x77800000 0x77800000 0x77800000))
              (i32x4.eq
                (v128.and (local.get $h) (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00))
                (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00))))))
          (local.set $row (i32.add (local.get $row) (local.get $stride)))
          (br_if $each (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
      (v128.store (local.get $sums) (local.get $low))
      (v128.store offset=16 (local.get $sums) (local.get $high))
      (local.set $sums (i32.add (local.get $sums) (i32.const 32)))
      (local.set $rows (i32.add (local.get $rows) (i32.const 16)))
      (br_if $elements (i32.lt_u (local.get $rows) (local.get $end)))))

  ;; the same for float32
  (func (export "sum_float32") (param $rows i32) (param $stride i32) (param $count i32) (param $n i32) (param $sums i32)
    (local $end i32) (local $row i32) (local $left i32) (local $low v128) (local $high v128)
    (local.set $end (i32.add (local.get $rows) (i32.shl (local.get $n) (i32.const 2))))
    (if (i32.ge_u (local.get $rows) (local.get $end)) (then (return)))
    (loop $elements
      (local.set $low (v128.const i32x4 0 0 0 0))
      (local.set $high (v128.const i32x4 0 0 0 0))
      (local.set $row (local.get $rows))
      (local.set $left (local.get $count))
      (if (local.get $left) (then
        (loop $each
          (local.set $low (f32x4.add (local.get $low) (v128.load (local.get $row))))
          (local.set $high (f32x4.add (local.get $high) (v128.load offset=16 (local.get $row))))
          (local.set $row (i32.add (local.get $row) (local.get $stride)))
          (br_if $each (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
      (v128.store (local.get $sums) (local.get $low))
      (v128.store offset=16 (local.get $sums) (local.get $high))
      (local.set $sums (i32.add (local.get $sums) (i32.const 32)))
      (local.set $rows (i32.add (local.get $rows) (i32.const 32)))
      (br_if $elements (i32.lt_u (local.get $rows) (local.get $end)))))

  ;; rounds sums to bfloat16, to nearest even, in place: result i takes the bytes from 2i on; NaN becomes 0x7fc0
  (func (export "round_bfloat16") (param $sums i32) (param $n i32)
    (local $target i32) (local $end i32) (local $x v128) (local $low v128) (local $high v128)
    (local.set $target (local.get $sums))
    (local.set $end (i32.add (local.get $sums) (i32.shl (local.get $n) (i32.const 2))))
    (if (i32.ge_u (local.get $sums) (local.get $end)) (then (return)))
    (loop $elements
      (local.set $x (v128.load (local.get $sums)))
      (local.set $low (v128.bitselect
        (v128.const i32x4 0x7fc0 0x7fc0 0x7fc0 0x7fc0)
        (i32x4.shr_u
          (i32x4.add
            (i32x4.add (local.get $x) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
            (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
          (i32.const 16))
        (f32x4.ne (local.get $x) (local.get $x))))
      (local.set $x (v128.load offset=16 (local.get $sums)))
      (local.set $high (v128.bitselect
        (v128.const i32x4 0x7fc0 0x7fc0 0x7fc0 0x7fc0)
        (i32x4.shr_u
          (i32x4.add
            (i32x4.add (local.get $x) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
            (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
          (i32.const 16))
        (f32x4.ne (local.get $x) (local.get $x))))
      (v128.store (local.get $target) (i16x8.narrow_i32x4_u (local.get $low) (local.get $high)))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (local.set $sums (i32.add (local.get $sums) (i32.const 32)))
      (br_if $elements (i32.lt_u (local.get $sums) (local.get $end)))))

  ;; rounds sums to float16 in the same way; NaN becomes 0x7e00
  (func (export "round_float16") (param $sums i32) (param $n i32)
    (local $target i32) (local $end i32) (local $x v128) (local $low v128) (local $high v128) (local $magnitude v128)
    (local.set $target (local.get $sums))
    (local.set $end (i32.add (local.get $sums) (i32.shl (local.get $n) (i32.const 2))))
    (if (i32.ge_u (local.get $sums) (local.get $end)) (then (return)))
    (loop $elements
      (local.set $x (v128.load (local.get $sums)))
      (local.set $magnitude (v128.and (local.get $x)
        (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff)))
      ;; normal: move the exponent's bias and round the 13 bits that go
      (local.set $low (i32x4.sub (local.get $magnitude)
        (v128.const i32x4 0x38000000 0x38000000 0x38000000 0x38000000)))
      (local.set $low (i32x4.shr_u
        (i32x4.add
          (i32x4.add (local.get $low) (v128.const i32x4 0x0fff 0x0fff 0x0fff 0x0fff))
          (v128.and (i32x4.shr_u (local.get $low) (i32.const 13)) (v128.const i32x4 1 1 1 1)))
        (i32.const 13)))
      ;; subnormal: adding 0.5 rounds to a multiple of 2^-24, which then stands in the low bits
      (local.set $low (v128.bitselect
        (i32x4.sub
          (f32x4.add (local.get $magnitude) (v128.const f32x4 0.5 0.5 0.5 0.5))
          (v128.const i32x4 0x3f000000 0x3f000000 0x3f000000 0x3f000000))
        (local.get $low)
        (i32x4.lt_s (local.get $magnitude) (v128.const i32x4 0x38800000 0x38800000 0x38800000 0x38800000))))
      ;; from 65520 on to infinity
      (local.set $low (v128.bitselect
        (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00)
        (local.get $low)
        (i32x4.ge_s (local.get $magnitude) (v128.const i32x4 0x477ff000 0x477ff000 0x477ff000 0x477ff000))))
      (local.set $low (v128.bitselect
        (v128.const i32x4 0x7e00 0x7e00 0x7e00 0x7e00)
        (v128.or (local.get $low)
          (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (v128.const i32x4 0x8000 0x8000 0x8000 0x8000)))
        (f32x4.ne (local.get $x) (local.get $x))))
      (local.set $x (v128.load offset=16 (local.get $sums)))
      (local.set $magnitude (v128.and (local.get $x)
        (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff)))
      ;; normal: move the exponent's bias and round the 13 bits that go
      (local.set $high (i32x4.sub (local.get $magnitude)
        (v128.const i32x4 0x38000000 0x38000000 0x38000000 0x38000000)))
      (local.set $high (i32x4.shr_u
        (i32x4.add
          (i32x4.add (local.get $high) (v128.const i32x4 0x0fff 0x0fff 0x0fff 0x0fff))
          (v128.and (i32x4.shr_u (local.get $high) (i32.const 13)) (v128.const i32x4 1 1 1 1)))
        (i32.const 13)))
      ;; subnormal: adding 0.5 rounds to a multiple of 2^-24, which then stands in the low bits
      (local.set $high (v128.bitselect
        (i32x4.sub
          (f32x4.add (local.get $magnitude) (v128.const f32x4 0.5 0.5 0.5 0.5))
          (v128.const i32x4 0x3f000000 0x3f000000 0x3f000000 0x3f000000))
        (local.get $high)
        (i32x4.lt_s (local.get $magnitude) (v128.const i32x4 0x38800000 0x38800000 0x38800000 0x38800000))))
      ;; from 65520 on to infinity
      (local.set $high (v128.bitselect
        (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00)
        (local.get $high)
        (i32x4.ge_s (local.get $magnitude) (v128.const i32x4 0x477ff000 0x477ff000 0x477ff000 0x477ff000))))
      (local.set $high (v128.bitselect
        (v128.const i32x4 0x7e00 0x7e00 0x7e00 0x7e00)
        (v128.or (local.get $high)
          (v128.and (i32x4.shr_u (local.get $x) (i32.const 16)) (v128.const i32x4 0x8000 0x8000 0x8000 0x8000)))
        (f32x4.ne (local.get $x) (local.get $x))))
      (v128.store (local.get $target) (i16x8.narrow_i32x4_u (local.get $low) (local.get $high)))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (local.set $sums (i32.add (local.get $sums) (i32.const 32)))
      (br_if $elements (i32.lt_u (local.get $sums) (local.get $end))))))
